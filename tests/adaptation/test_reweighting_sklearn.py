"""What all weights of source rows have in common, and scikit-learn's rules for them."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.estimator_checks import check_estimator

from sktransfer.adaptation.kernel_mean_matching import KernelMeanMatching
from sktransfer.adaptation.kliep import KLIEP
from sktransfer.adaptation.reweighting import ClassifierDensityRatio, NearestNeighborWeights
from sktransfer.adaptation.ulsif import ULSIF
from sktransfer.exceptions import DomainWarning

METHODS = [
    KernelMeanMatching(),
    KernelMeanMatching(max_size=20, n_components=25),
    KLIEP(random_state=0),
    KLIEP(gamma=0.5, n_centers=10, random_state=0),
    ULSIF(random_state=0),
    ULSIF(n_centers=10, random_state=0),
    ClassifierDensityRatio(),
    ClassifierDensityRatio(RandomForestClassifier(5, max_depth=3), cv=3, random_state=0),
    NearestNeighborWeights(),
]
every = pytest.mark.parametrize("method", METHODS, ids=str)


@pytest.fixture
def shifted():
    """Rows of both domains in turn, some of them equal."""
    random = np.random.RandomState(0)
    X, sample_domain = random.randn(150, 3), np.where(np.arange(150) % 3 == 0, -1, 1)
    X[sample_domain < 0] += [0.7, 0, 0.3]
    X[[4, 7, 10]] = X[1]
    return X, sample_domain


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.DomainWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "method",
    [KernelMeanMatching(), KLIEP(), ULSIF(), ClassifierDensityRatio(), NearestNeighborWeights()],
    ids=str,
)
def test_check_estimator_passes_and_skips_nothing(method):
    results = check_estimator(method, on_skip=None, on_fail=None)
    other = [(r["check_name"], r["status"], r["exception"]) for r in results]
    assert [entry for entry in other if entry[1] != "passed"] == []
    assert len(results) >= 40


@every
def test_weights_do_not_depend_on_the_order_of_rows(shifted, method):
    X, sample_domain = shifted
    weights = clone(method).fit(X, sample_domain=sample_domain).sample_weight_
    for seed in range(3):
        order = np.random.RandomState(seed).permutation(len(X))
        again = clone(method).fit(X[order], sample_domain=sample_domain[order]).sample_weight_
        np.testing.assert_allclose(again, weights[order], atol=1e-7)


@every
def test_weights_are_of_source_rows_have_mean_one_and_lean_to_the_target(shifted, method):
    X, sample_domain = shifted
    method = clone(method).fit(X, sample_domain=sample_domain)
    weights, is_source = method.sample_weight_, sample_domain > 0
    assert weights.shape == (150,)
    assert weights.dtype == np.float64
    assert (weights[~is_source] == 0).all()
    assert (weights >= 0).all()
    assert weights[is_source].mean() == pytest.approx(1)
    assert 1 <= method.effective_sample_size_ <= 100
    before = X[is_source, 0].mean()
    assert np.average(X[:, 0], weights=weights) > before + 0.2


@every
def test_what_is_passed_is_not_written_to_and_labels_are_not_looked_at(shifted, method):
    X, sample_domain = shifted
    y = np.full(len(X), np.nan)
    for array in (X, sample_domain, y):
        array.flags.writeable = False
    state = np.random.get_state()
    with_labels = clone(method).fit(X, y, sample_domain=sample_domain).sample_weight_
    np.testing.assert_equal(np.random.get_state(), state)
    without = clone(method).fit(X, sample_domain=sample_domain).sample_weight_
    np.testing.assert_array_equal(with_labels, without)


# Trees look at single precision, which is no fault of the method's.
@pytest.mark.parametrize("method", [m for m in METHODS if "Forest" not in str(m)], ids=str)
def test_a_far_origin_changes_nothing(shifted, method):
    X, sample_domain = np.round(shifted[0] * 64) / 64, shifted[1]
    near = clone(method).fit(X, sample_domain=sample_domain).sample_weight_
    far = clone(method).fit(X + 2.0**20, sample_domain=sample_domain).sample_weight_
    np.testing.assert_allclose(far, near, rtol=1e-3, atol=1e-3)


@every
def test_a_pickle_has_the_same_ratio_and_single_precision_is_close(shifted, method):
    X, sample_domain = shifted
    method = clone(method).fit(X, sample_domain=sample_domain)
    again = pickle.loads(pickle.dumps(method))
    np.testing.assert_array_equal(again.sample_weight_, method.sample_weight_)
    if hasattr(method, "density_ratio"):
        ratio = method.density_ratio(X)
        np.testing.assert_array_equal(again.density_ratio(X), ratio)
        assert ratio.shape == (150,)
        np.testing.assert_allclose(
            method.density_ratio(X.astype(np.float32)), ratio, rtol=1e-3, atol=1e-4
        )


@every
def test_without_domains_there_is_a_warning_and_next_to_nothing_is_weighted(shifted, method):
    with pytest.warns(DomainWarning, match="without sample_domain"):
        weights = clone(method).fit(shifted[0]).sample_weight_
    assert weights.mean() == pytest.approx(1)
