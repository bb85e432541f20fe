"""Transformers that turn images into feature vectors inside a Pipeline."""

from sktransfer.features.image import PretrainedCNNFeatures

__all__ = ["PretrainedCNNFeatures"]
