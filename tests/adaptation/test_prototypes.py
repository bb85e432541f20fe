"""PrototypeTransferClassifier: class means that move to the target."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestCentroid
from sklearn.utils import estimator_checks as checks

from sktransfer.adaptation.prototypes import PrototypeTransferClassifier
from sktransfer.exceptions import DomainWarning

METRICS = ["euclidean", "cosine"]


@pytest.fixture
def two_domains():
    """150 + 150 rows of four classes, the target's all moved by the same vector."""
    X, y = make_blobs(300, 5, centers=4, cluster_std=1.5, random_state=2)
    sample_domain = np.random.RandomState(2).permutation(np.repeat([1, -1], 150))
    X[sample_domain < 0] += [4, -3, 1.5, 3, 0]
    return X, y, sample_domain


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.DomainWarning")
@pytest.mark.parametrize("metric", METRICS)
def test_check_estimator_passes_and_skips_nothing(metric, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    results = checks.check_estimator(
        PrototypeTransferClassifier(metric), on_skip=None, on_fail=None
    )
    other = [(r["check_name"], r["status"], r["exception"]) for r in results]
    assert [entry for entry in other if entry[1] != "passed"] == []
    assert len(results) >= 50


def test_without_updates_it_is_the_nearest_centroid_of_the_source(two_domains):
    X, y, sample_domain = two_domains
    source = sample_domain > 0
    oracle = NearestCentroid().fit(X[source], y[source])
    classifier = PrototypeTransferClassifier(n_iterations=0)
    classifier.fit(X, y, sample_domain=sample_domain)
    np.testing.assert_allclose(classifier.prototypes_, oracle.centroids_, rtol=1e-13)
    np.testing.assert_array_equal(classifier.predict(X), oracle.predict(X))


def test_at_temperature_zero_it_is_k_means_from_the_source(two_domains):
    X, y, sample_domain = two_domains
    target = X[sample_domain < 0]
    classifier = PrototypeTransferClassifier(temperature=0.0, n_iterations=50)
    classifier.fit(X, y, sample_domain=sample_domain)
    oracle = KMeans(4, init=classifier.source_prototypes_, n_init=1, tol=0).fit(target)
    np.testing.assert_allclose(classifier.prototypes_, oracle.cluster_centers_, rtol=1e-12)
    np.testing.assert_array_equal(classifier.classes_[oracle.labels_], classifier.predict(target))
    assert set(np.unique(classifier.predict_proba(target))) == {0, 1}


def test_probabilities_are_the_posterior_of_a_spherical_gaussian_mixture(two_domains):
    X, y, sample_domain = two_domains
    classifier = PrototypeTransferClassifier().fit(X, y, sample_domain=sample_domain)
    mixture = GaussianMixture(4, covariance_type="spherical")
    mixture.weights_ = np.full(4, 0.25)
    mixture.means_ = classifier.prototypes_
    mixture.covariances_ = np.full(4, classifier.scale_)
    mixture.precisions_cholesky_ = mixture.covariances_**-0.5
    np.testing.assert_allclose(
        classifier.predict_proba(X), mixture.predict_proba(X), rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize("source_weight", [0.0, 0.3, 1.0])
def test_updates_are_weighted_means_of_both_domains(source_weight, two_domains):
    X, y, sample_domain = two_domains
    source, target = X[sample_domain > 0], X[sample_domain < 0]
    labels = y[sample_domain > 0]
    one_hot = np.eye(4)[labels]
    means = one_hot.T @ source / one_hot.sum(0)[:, None]
    variance = ((source - means[labels]) ** 2).mean()
    for _ in range(3):
        gaps = ((target[:, None] - means) ** 2).sum(2)
        shares = np.exp(-gaps / (2 * variance * 2.5))
        shares /= shares.sum(1, keepdims=True)
        sums = source_weight * one_hot.T @ source + shares.T @ target
        means = sums / (source_weight * one_hot.sum(0) + shares.sum(0))[:, None]
    classifier = PrototypeTransferClassifier(
        n_iterations=3, temperature=2.5, source_weight=source_weight
    ).fit(X, y, sample_domain=sample_domain)
    np.testing.assert_allclose(classifier.prototypes_, means, rtol=1e-11)


def test_cosine_sees_directions_alone(two_domains):
    X, y, sample_domain = two_domains
    lengths = np.random.RandomState(0).uniform(0.5, 2, len(X))[:, None]
    classifier = PrototypeTransferClassifier("cosine").fit(X, y, sample_domain=sample_domain)
    shares = classifier.predict_proba(X)
    np.testing.assert_allclose(np.linalg.norm(classifier.prototypes_, axis=1), 1)
    cosines = X / np.linalg.norm(X, axis=1, keepdims=True) @ classifier.prototypes_.T
    np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[cosines.argmax(1)])
    classifier.fit(X * lengths, y, sample_domain=sample_domain)
    np.testing.assert_allclose(classifier.predict_proba(X), shares, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_updates_follow_a_shift(metric, two_domains):
    X, y, sample_domain = two_domains
    target = sample_domain < 0
    scores = [
        PrototypeTransferClassifier(metric, n_iterations=n)
        .fit(X, y, sample_domain=sample_domain)
        .score(X[target], y[target])
        for n in (0, 10)
    ]
    assert scores[1] > scores[0]
    assert scores[1] > 0.95


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_rows_changes_nothing(metric, two_domains):
    X, y, sample_domain = two_domains
    order = np.random.RandomState(5).permutation(len(X))
    classifier = PrototypeTransferClassifier(metric)
    shares = classifier.fit(X, y, sample_domain=sample_domain).predict_proba(X)
    classifier.fit(X[order], y[order], sample_domain=sample_domain[order])
    np.testing.assert_allclose(
        classifier.predict_proba(X[order]), shares[order], rtol=1e-8, atol=1e-12
    )


def test_labels_of_target_rows_are_not_looked_at_unless_asked(two_domains):
    X, y, sample_domain = two_domains
    target = sample_domain < 0
    flipped = np.where(target, np.nan, y.astype(float))
    classifier = PrototypeTransferClassifier()
    expected = classifier.fit(X, y, sample_domain=sample_domain).prototypes_
    np.testing.assert_array_equal(
        classifier.fit(X, flipped, sample_domain=sample_domain).prototypes_, expected
    )
    classifier.fit(X, y, sample_domain=sample_domain, target_labeled=target)
    means = np.stack([X[target & (y == k)].mean(0) for k in range(4)])
    # With every target row labelled there is nothing to assign.
    np.testing.assert_allclose(
        classifier.prototypes_, np.stack([X[y == k].mean(0) for k in range(4)]), rtol=1e-12
    )
    some = target & (np.random.RandomState(0).uniform(size=len(y)) < 0.9)
    classifier.fit(X, y, sample_domain=sample_domain, target_labeled=some)
    np.testing.assert_allclose(classifier.prototypes_, means, atol=0.2)


def test_a_class_of_labelled_target_rows_alone_is_learned(two_domains):
    X, y, sample_domain = two_domains
    kept = (sample_domain < 0) | (y != 2)
    X, y, sample_domain = X[kept], y[kept], sample_domain[kept]
    labelled = np.zeros(len(y), dtype=bool)
    labelled[np.flatnonzero((sample_domain < 0) & (y == 2))[:3]] = True
    classifier = PrototypeTransferClassifier()
    classifier.fit(X, y, sample_domain=sample_domain, target_labeled=labelled)
    assert classifier.classes_.tolist() == [0, 1, 2, 3]
    assert classifier.score(X[sample_domain < 0], y[sample_domain < 0]) > 0.95


def test_a_class_without_any_row_in_the_target_stays():
    X = np.array([[0.0], [0.1], [5.0], [5.1], [100.0], [100.1], [0.3], [0.4], [5.3]])
    y = ["a", "a", "b", "b", "c", "c", "", "", ""]
    sample_domain = [1] * 6 + [-1] * 3
    classifier = PrototypeTransferClassifier().fit(X, y, sample_domain=sample_domain)
    np.testing.assert_allclose(classifier.prototypes_.ravel(), [0.35, 5.3, 100.05])


def test_rows_without_any_spread_are_assigned_to_the_nearest():
    X = [[0.0], [4.0], [1.0], [3.5]]
    classifier = PrototypeTransferClassifier(n_iterations=1)
    classifier.fit(X, ["a", "b", "", ""], sample_domain=[1, 1, -1, -1])
    assert classifier.scale_ == 0
    assert classifier.prototypes_.ravel().tolist() == [1.0, 3.5]


def test_without_domains_nothing_moves(two_domains):
    X, y, _ = two_domains
    with pytest.warns(DomainWarning, match="without sample_domain"):
        classifier = PrototypeTransferClassifier().fit(X, y)
    np.testing.assert_array_equal(classifier.prototypes_, classifier.source_prototypes_)


@pytest.mark.parametrize("labels", [["a", "b", "c", "d"], [-1, 1, 3, 7]])
def test_labels_may_be_anything(labels, two_domains):
    X, y, sample_domain = two_domains
    expected = PrototypeTransferClassifier().fit(X, y, sample_domain=sample_domain).predict(X)
    named = np.array(labels)[y]
    classifier = PrototypeTransferClassifier().fit(X, named, sample_domain=sample_domain)
    np.testing.assert_array_equal(classifier.predict(X), np.array(labels)[expected])


def test_float32_clone_pickle_and_read_only_rows(two_domains):
    X, y, sample_domain = two_domains
    X = X.astype(np.float32)
    for array in (X, y, sample_domain):
        array.flags.writeable = False
    classifier = clone(PrototypeTransferClassifier(temperature=2.0))
    shares = classifier.fit(X, y, sample_domain=sample_domain).predict_proba(X)
    assert shares.dtype == np.float32
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X), shares)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"metric": "manhattan"}, "metric must be one of .* got 'manhattan'"),
        ({"n_iterations": -1}, "n_iterations == -1, must be >= 0"),
        ({"temperature": -1.0}, "temperature == -1.0, must be >= 0"),
        ({"temperature": np.nan}, "temperature must be a number, got nan"),
        ({"source_weight": np.inf}, "source_weight == inf, must be < inf"),
        ({"source_weight": -0.5}, "source_weight == -0.5, must be >= 0"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_rule(parameters, message, two_domains):
    X, y, sample_domain = two_domains
    with pytest.raises(ValueError, match=message):
        PrototypeTransferClassifier(**parameters).fit(X, y, sample_domain=sample_domain)


def test_far_from_the_origin_classes_are_the_same(two_domains):
    X, y, sample_domain = two_domains
    expected, found = (
        PrototypeTransferClassifier().fit(rows, y, sample_domain=sample_domain).predict_proba(rows)
        for rows in (X, X + 1e7)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
