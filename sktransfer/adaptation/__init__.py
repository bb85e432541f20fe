"""Domain adaptation by weights of instances, maps of features, and relations between rows.

Everywhere X holds the rows of both domains, and ``sample_domain`` tells them apart: positive for
the source, negative for the target. torch is not needed.

A map in a Pipeline passes on all rows, target rows and their placeholder labels included.
`AdaptedClassifier` and `AdaptedRegressor` learn from labelled rows only.

>>> from sklearn.datasets import make_blobs
>>> from sktransfer.adaptation import CORAL, AdaptedClassifier, stack_domains
>>> X_source, y_source = make_blobs(100, centers=[[0, 0], [3, 3]], random_state=0)
>>> X_target, y_target = make_blobs(100, centers=[[9, 0], [12, 3]], random_state=1)
>>> X, y, sample_domain = stack_domains(X_source, X_target, y_source)
>>> classifier = AdaptedClassifier(method=CORAL()).fit(X, y, sample_domain=sample_domain)
>>> bool(classifier.score(X_target, y_target) > 0.95)
True
"""

from sktransfer.adaptation.alignment import CORAL, SubspaceAlignment
from sktransfer.adaptation.boosting import TrAdaBoostClassifier, TrAdaBoostRegressor
from sktransfer.adaptation.heterogeneous import CanonicalCorrelationMap, LinearGromovWasserstein
from sktransfer.adaptation.kernel_mean_matching import KernelMeanMatching
from sktransfer.adaptation.kliep import KLIEP
from sktransfer.adaptation.meta import AdaptedClassifier, AdaptedRegressor
from sktransfer.adaptation.optimal_transport import OptimalTransportMap
from sktransfer.adaptation.propagation import LabelPropagationClassifier
from sktransfer.adaptation.prototypes import PrototypeTransferClassifier
from sktransfer.adaptation.relation import SourceMetric
from sktransfer.adaptation.reweighting import ClassifierDensityRatio, NearestNeighborWeights
from sktransfer.adaptation.scaling import DomainStandardScaler
from sktransfer.adaptation.stacking import stack_domains, stack_heterogeneous
from sktransfer.adaptation.transfer_components import TransferComponentAnalysis
from sktransfer.adaptation.ulsif import ULSIF

__all__ = [
    "CORAL",
    "KLIEP",
    "ULSIF",
    "AdaptedClassifier",
    "AdaptedRegressor",
    "CanonicalCorrelationMap",
    "ClassifierDensityRatio",
    "DomainStandardScaler",
    "KernelMeanMatching",
    "LabelPropagationClassifier",
    "LinearGromovWasserstein",
    "NearestNeighborWeights",
    "OptimalTransportMap",
    "PrototypeTransferClassifier",
    "SourceMetric",
    "SubspaceAlignment",
    "TrAdaBoostClassifier",
    "TrAdaBoostRegressor",
    "TransferComponentAnalysis",
    "stack_domains",
    "stack_heterogeneous",
]
