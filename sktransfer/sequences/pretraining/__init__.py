"""Learning features from unlabelled sequences of one's own."""

from sktransfer.sequences.pretraining.strategy import Pretraining

__all__ = ["Pretraining"]
