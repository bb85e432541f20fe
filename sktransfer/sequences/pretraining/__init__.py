"""Self-supervised pretraining of sequence networks on unlabelled sequences."""

from sktransfer.sequences.pretraining.strategy import Pretraining

__all__ = ["Pretraining"]
