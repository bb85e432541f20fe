"""Fitted pipelines for where there is no Python: one ONNX model from pixels to labels."""

from sktransfer.export.onnx import onnx_input, to_onnx

__all__ = ["onnx_input", "to_onnx"]
