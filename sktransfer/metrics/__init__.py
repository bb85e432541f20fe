"""Measures of transferability and of the gap between domains, and scorers without target labels."""

from sktransfer.metrics._kernel_sums import PermutationTestResult
from sktransfer.metrics.distances import (
    coral_distance,
    energy_distance,
    mmd,
    mmd_permutation_test,
    proxy_a_distance,
)
from sktransfer.metrics.scorers import (
    CircularValidationScorer,
    DeepEmbeddedValidationScorer,
    ImportanceWeightedScorer,
    PredictionEntropyScorer,
)
from sktransfer.metrics.shift import ShiftReport, diagnose_shift
from sktransfer.metrics.transferability import h_score, leep, logme, nce, transrate

__all__ = [
    "CircularValidationScorer",
    "DeepEmbeddedValidationScorer",
    "ImportanceWeightedScorer",
    "PermutationTestResult",
    "PredictionEntropyScorer",
    "ShiftReport",
    "coral_distance",
    "diagnose_shift",
    "energy_distance",
    "h_score",
    "leep",
    "logme",
    "mmd",
    "mmd_permutation_test",
    "nce",
    "proxy_a_distance",
    "transrate",
]
