"""The feature maps against scikit-learn's own rules, and against ours for all maps alike."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks as checks

from sktransfer.adaptation.alignment import CORAL, SubspaceAlignment
from sktransfer.adaptation.heterogeneous import CanonicalCorrelationMap, LinearGromovWasserstein
from sktransfer.adaptation.optimal_transport import OptimalTransportMap
from sktransfer.adaptation.scaling import DomainStandardScaler
from sktransfer.adaptation.transfer_components import TransferComponentAnalysis
from sktransfer.exceptions import DomainWarning

MAPS = [
    CORAL(),
    CORAL("auto"),
    CORAL(0.0, match_mean=False),
    SubspaceAlignment(),
    SubspaceAlignment(2),
    DomainStandardScaler(),
    TransferComponentAnalysis(),
    TransferComponentAnalysis(3, n_landmarks=20, random_state=0),
    TransferComponentAnalysis(kernel="linear"),
    OptimalTransportMap(),
    OptimalTransportMap(max_samples=20, random_state=0),
    OptimalTransportMap("sinkhorn"),
    OptimalTransportMap("class-regularised"),
    OptimalTransportMap("linear"),
    CanonicalCorrelationMap(),
    LinearGromovWasserstein(),
]

DEFAULTS = [
    CORAL(),
    SubspaceAlignment(),
    DomainStandardScaler(),
    TransferComponentAnalysis(),
    TransferComponentAnalysis(kernel="linear"),
    OptimalTransportMap("sinkhorn"),
    OptimalTransportMap("linear"),
    CanonicalCorrelationMap(),
    LinearGromovWasserstein(),
]

# `check_estimator` runs these only for scikit-learn's own estimators.
LEFT_OUT = [
    "check_get_feature_names_out_error",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_dataframe_column_names_consistency",
]

pytestmark = pytest.mark.filterwarnings(
    "ignore::sktransfer.exceptions.DomainWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)


@pytest.fixture
def two_domains():
    """60 + 50 rows of four features, in random order, and labels as texts."""
    random = np.random.RandomState(0)
    sample_domain = random.permutation(np.repeat([1, -1], [60, 50]))
    X = random.randn(110, 4) @ random.randn(4, 4)
    X[sample_domain < 0] = X[sample_domain < 0] @ random.randn(4, 4) + 1
    y = np.where(X[:, 0] > 0, "yes", "no").astype(object)
    y[sample_domain < 0] = None
    return X, y, sample_domain


@pytest.mark.slow
@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_check_estimator_passes_and_skips_nothing(estimator, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    results = checks.check_estimator(estimator, on_skip=None, on_fail=None)
    other = [(r["check_name"], r["status"], r["exception"]) for r in results]
    assert [entry for entry in other if entry[1] != "passed"] == []
    assert len(results) >= 40


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("estimator", DEFAULTS, ids=repr)
@pytest.mark.parametrize("name", LEFT_OUT)
def test_check_that_check_estimator_leaves_out_passes(name, estimator):
    getattr(checks, name)(type(estimator).__name__, estimator)


@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_rows_stay_in_order_whatever_the_order(estimator, two_domains):
    X, y, sample_domain = two_domains
    p = np.random.RandomState(1).permutation(len(X))
    Z = clone(estimator).fit_transform(X, y, sample_domain=sample_domain)
    shuffled = clone(estimator).fit_transform(X[p], y[p], sample_domain=sample_domain[p])
    np.testing.assert_allclose(shuffled, Z[p], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_a_row_is_mapped_alike_by_fit_transform_and_transform(estimator, two_domains):
    X, y, sample_domain = two_domains
    fitted = clone(estimator)
    Z = fitted.fit_transform(X, y, sample_domain=sample_domain)
    np.testing.assert_allclose(fitted.transform(X, sample_domain=sample_domain), Z, atol=1e-12)
    target = sample_domain < 0
    np.testing.assert_allclose(fitted.transform(X[target]), Z[target], atol=1e-12)


@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_nothing_of_the_callers_is_written_to(estimator, two_domains):
    for each in two_domains:
        each.flags.writeable = False
    X, y, sample_domain = two_domains
    Z = clone(estimator).fit_transform(X, y, sample_domain=sample_domain)
    assert not np.shares_memory(Z, X)


@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_labels_of_target_rows_are_not_looked_at(estimator, two_domains):
    X, y, sample_domain = two_domains
    told = np.where(sample_domain < 0, "something else", y)
    Z = clone(estimator).fit_transform(X, y, sample_domain=sample_domain)
    np.testing.assert_array_equal(
        clone(estimator).fit_transform(X, told, sample_domain=sample_domain), Z
    )


@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_float32_stays_float32_and_pickles_map_alike(estimator, two_domains):
    X, y, sample_domain = two_domains
    fitted = clone(estimator).fit(X.astype(np.float32), y, sample_domain=sample_domain)
    Z = fitted.transform(X.astype(np.float32), sample_domain=sample_domain)
    assert Z.dtype == np.float32
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        again.transform(X.astype(np.float32), sample_domain=sample_domain), Z
    )


@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_global_random_numbers_are_left_alone(estimator, two_domains):
    X, y, sample_domain = two_domains
    np.random.seed(3)
    before = np.random.get_state()
    clone(estimator).fit_transform(X, y, sample_domain=sample_domain)
    np.testing.assert_equal(np.random.get_state(), before)


@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_domains_that_are_not_told_apart_are_warned_of(estimator, two_domains):
    X, _, _ = two_domains
    with pytest.warns(DomainWarning, match="without sample_domain"):
        clone(estimator).fit(X, (X[:, 0] > 0).astype(int))


@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_a_source_alone_is_refused(estimator, two_domains):
    X, y, sample_domain = two_domains
    source = sample_domain > 0
    with pytest.raises(ValueError, match="no target row"):
        clone(estimator).fit(X[source], y[source], sample_domain=sample_domain[source])


@pytest.mark.parametrize(
    "estimator",
    [
        CORAL(),
        SubspaceAlignment(),
        OptimalTransportMap("linear"),
        LinearGromovWasserstein(),
    ],
    ids=repr,
)
def test_a_single_row_has_no_spread_to_align(estimator, two_domains):
    X, y, sample_domain = two_domains
    some = np.append(np.flatnonzero(sample_domain < 0)[:1], np.flatnonzero(sample_domain > 0))
    with pytest.raises(ValueError, match="at least 2 rows of each domain.* 1 of the target"):
        estimator.fit(X[some], y[some], sample_domain=sample_domain[some])


@pytest.mark.parametrize(
    "estimator",
    [DomainStandardScaler(), TransferComponentAnalysis(2), OptimalTransportMap()],
    ids=repr,
)
def test_a_single_target_row_is_enough_for_the_others(estimator, two_domains):
    X, y, sample_domain = two_domains
    some = np.append(np.flatnonzero(sample_domain < 0)[:1], np.flatnonzero(sample_domain > 0))
    Z = estimator.fit_transform(X[some], y[some], sample_domain=sample_domain[some])
    assert np.isfinite(Z).all()


@pytest.mark.parametrize("estimator", MAPS, ids=repr)
def test_constant_features_give_finite_numbers(estimator, two_domains):
    X, y, sample_domain = two_domains
    X[:, 1] = 3.0
    X[:, 2] = 1e6
    Z = clone(estimator).fit_transform(X, y, sample_domain=sample_domain)
    assert np.isfinite(Z).all()


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (CORAL(reg=-1.0), "reg == -1.0, must be >= 0"),
        (CORAL(reg=np.nan), "reg must be a number"),
        (CORAL(reg="ledoit"), "reg must be 'auto' or a number of at least 0, got 'ledoit'"),
        (CORAL(match_mean="no"), "match_mean must be True or False, got 'no'"),
        (SubspaceAlignment(0), "n_components == 0, must be >= 1"),
        (SubspaceAlignment(5), "n_components == 5, must be <= 4"),
        (SubspaceAlignment(1.5), "n_components must be an integer, a share"),
        (DomainStandardScaler(with_std=1), "with_std must be True or False, got 1"),
        (TransferComponentAnalysis(kernel="poly"), "kernel must be one of"),
        (TransferComponentAnalysis(gamma=0.0), "gamma must be 'median' or a number above 0"),
        (TransferComponentAnalysis(mu=-0.1), "mu == -0.1, must be >= 0"),
        (TransferComponentAnalysis(5, kernel="linear"), "n_components == 5, must be <= 4"),
        (TransferComponentAnalysis(n_landmarks=1), "n_landmarks == 1, must be >= 2"),
        (OptimalTransportMap("exact"), "method must be one of .* got 'exact'"),
        (OptimalTransportMap("sinkhorn", reg=0.0), "reg == 0.0, must be > 0"),
        (OptimalTransportMap(normalise_cost="mean"), "normalise_cost must be one of"),
        (OptimalTransportMap(max_samples=1), "max_samples == 1, must be >= 2"),
        (CanonicalCorrelationMap(3), "n_components == 3, must be <= 2"),
        (CanonicalCorrelationMap(n_source_features=4), "n_source_features == 4, must be <= 3"),
        (LinearGromovWasserstein(signs="some"), "signs must be one of"),
    ],
    ids=repr,
)
def test_errors_name_parameter_rule_and_value(estimator, message, two_domains):
    X, y, sample_domain = two_domains
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y, sample_domain=sample_domain)
