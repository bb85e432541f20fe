"""Transformers that turn images, sequences and texts into feature vectors inside a Pipeline."""

from sktransfer.features.image import PretrainedCNNFeatures
from sktransfer.features.sequence import RNNSequenceFeatures
from sktransfer.features.text import PretrainedTextFeatures

__all__ = ["PretrainedCNNFeatures", "PretrainedTextFeatures", "RNNSequenceFeatures"]
