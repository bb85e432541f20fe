"""Plots of layers, embeddings, domain shifts, rankings, training, and the regions that decide.

The classes are Displays, as in scikit-learn: they hold the data of a plot, `plot` draws it, and a
class method such as `from_estimator` computes the data and draws it. They need matplotlib:
``pip install "sktransfer[plot]"``. `TransferReport` combines them in one HTML file.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sktransfer.inspection.embedding import EmbeddingDisplay
    from sktransfer.inspection.feature_map import FeatureMapDisplay
    from sktransfer.inspection.fine_tuning import FineTuningDisplay
    from sktransfer.inspection.grad_cam import GradCAMDisplay
    from sktransfer.inspection.layer_probe import LayerProbeDisplay
    from sktransfer.inspection.report.transfer_report import TransferReport
    from sktransfer.inspection.scaling import ScalingReport, diagnose_scaling
    from sktransfer.inspection.shift import ShiftDisplay
    from sktransfer.inspection.transferability import TransferabilityDisplay

_HOMES = {
    "EmbeddingDisplay": "embedding",
    "FeatureMapDisplay": "feature_map",
    "FineTuningDisplay": "fine_tuning",
    "GradCAMDisplay": "grad_cam",
    "LayerProbeDisplay": "layer_probe",
    "ScalingReport": "scaling",
    "ShiftDisplay": "shift",
    "TransferReport": "report.transfer_report",
    "TransferabilityDisplay": "transferability",
    "diagnose_scaling": "scaling",
}

__all__ = [
    "EmbeddingDisplay",
    "FeatureMapDisplay",
    "FineTuningDisplay",
    "GradCAMDisplay",
    "LayerProbeDisplay",
    "ScalingReport",
    "ShiftDisplay",
    "TransferReport",
    "TransferabilityDisplay",
    "diagnose_scaling",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
