"""Transformers that turn images and sequences into feature vectors inside a Pipeline."""

from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.features.sequence import RNNSequenceFeatures

__all__ = ["PretrainedCNNFeatures", "RNNSequenceFeatures"]
