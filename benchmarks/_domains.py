"""The methods between domains that several benchmarks compare."""

from typing import Any

from sklearn.base import clone

from sktransfer.adaptation import (
    CORAL,
    KLIEP,
    ULSIF,
    AdaptedClassifier,
    ClassifierDensityRatio,
    DomainStandardScaler,
    KernelMeanMatching,
    LabelPropagationClassifier,
    NearestNeighborWeights,
    OptimalTransportMap,
    PrototypeTransferClassifier,
    SourceMetric,
    SubspaceAlignment,
    TransferComponentAnalysis,
)

SOURCE, TARGET = "source only", "target only"

METHODS: dict[str, Any] = {
    "CORAL": CORAL(),
    "subspace alignment": SubspaceAlignment(),
    "TCA": TransferComponentAnalysis(random_state=0),
    "linear OT": OptimalTransportMap("linear"),
    "EMD": OptimalTransportMap("emd"),
    "Sinkhorn": OptimalTransportMap("sinkhorn"),
    "class-regularised OT": OptimalTransportMap("class-regularised"),
    "domain-wise scaling": DomainStandardScaler(),
    "KMM": KernelMeanMatching(),
    "KLIEP": KLIEP(random_state=0),
    "uLSIF": ULSIF(random_state=0),
    "classifier density ratio": ClassifierDensityRatio(random_state=0),
    "nearest neighbour": NearestNeighborWeights(),
    "source metric": SourceMetric(),
    "label propagation": LabelPropagationClassifier(),
    "prototypes": PrototypeTransferClassifier(),
}
"""All with their defaults; the last two are classifiers, and need no head."""


def adapted(method: Any, head: Any) -> Any:
    """An estimator for a method: the method if it classifies, else a head with the map or weights.

    It is fitted to both domains, and predicts for the target.
    """
    return clone(method) if hasattr(method, "predict") else AdaptedClassifier(head, method)
