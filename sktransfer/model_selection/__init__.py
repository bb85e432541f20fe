"""Cross-validation splitters for several domains, and ranking of backbones."""

from sktransfer.model_selection.ranking import BackboneRanking, RankedBackbone, rank_backbones
from sktransfer.model_selection.shuffle_splits import StratifiedDomainShuffleSplit
from sktransfer.model_selection.splits import LeaveOneDomainOut, TargetKFold

__all__ = [
    "BackboneRanking",
    "LeaveOneDomainOut",
    "RankedBackbone",
    "StratifiedDomainShuffleSplit",
    "TargetKFold",
    "rank_backbones",
]
