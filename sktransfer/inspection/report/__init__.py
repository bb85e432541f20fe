"""A report of a transfer as one HTML file."""

from sktransfer.inspection.report.transfer_report import TransferReport

__all__ = ["TransferReport"]
