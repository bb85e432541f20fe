"""Export of fitted pipelines to ONNX, for use without Python."""

from sktransfer.export.onnx import onnx_input, to_onnx

__all__ = ["onnx_input", "to_onnx"]
