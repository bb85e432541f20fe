"""SourceMetric: a metric that is learned in the source."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.datasets import make_blobs
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.utils import estimator_checks as checks

from sktransfer.adaptation.relation import SourceMetric
from sktransfer.exceptions import DomainWarning

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
METHODS = ["discriminative", "nca"]


@pytest.fixture
def two_domains():
    """60 + 40 rows of four classes in six columns, in random order."""
    X, y = make_blobs(100, 6, centers=4, cluster_std=4.0, random_state=1)
    sample_domain = np.random.RandomState(2).permutation(np.repeat([1, -1], [60, 40]))
    X[sample_domain < 0] += 0.5
    return X, y, sample_domain


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.DomainWarning")
@pytest.mark.parametrize("method", METHODS)
def test_check_estimator_passes_and_skips_nothing(method, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    results = checks.check_estimator(SourceMetric(method), on_skip=None, on_fail=None)
    other = [(r["check_name"], r["status"], r["exception"]) for r in results]
    assert [entry for entry in other if entry[1] != "passed"] == []
    assert len(results) >= 45


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.DomainWarning")
@pytest.mark.parametrize("name", LEFT_OUT)
def test_check_that_check_estimator_leaves_out_passes(name):
    getattr(checks, name)("SourceMetric", SourceMetric())


def test_discriminative_components_span_those_of_lda(two_domains):
    X, y, sample_domain = two_domains
    source = sample_domain > 0
    lda = LinearDiscriminantAnalysis("eigen").fit(X[source], y[source])
    metric = SourceMetric(n_components=3, shrinkage=0.0)
    metric.fit(X, y, sample_domain=sample_domain)
    assert subspace_angles(metric.components_.T, lda.scalings_[:, :3]).max() < 1e-10


def test_each_discriminative_component_is_one_of_lda_in_its_order(two_domains):
    X, y, sample_domain = two_domains
    source = sample_domain > 0
    expected = LinearDiscriminantAnalysis("eigen").fit(X[source], y[source]).scalings_.T
    found = SourceMetric(n_components=2, shrinkage=0.0).fit(X, y, sample_domain=sample_domain)
    for component, scaling in zip(found.components_, expected, strict=False):
        sign = np.sign(component @ scaling)
        np.testing.assert_allclose(component, sign * scaling, rtol=1e-9)


def test_all_components_whiten_the_scatter_within_classes(two_domains):
    X, y, sample_domain = two_domains
    metric = SourceMetric(shrinkage=0.0)
    Z = metric.fit_transform(X, y, sample_domain=sample_domain)[sample_domain > 0]
    labels = y[sample_domain > 0]
    inner = Z - np.stack([Z[labels == k].mean(0) for k in range(4)])[labels]
    np.testing.assert_allclose(inner.T @ inner / len(inner), np.eye(6), atol=1e-12)


def test_distances_are_those_of_mahalanobis_under_the_shrunk_scatter(two_domains):
    X, y, sample_domain = two_domains
    rows, labels = X[sample_domain > 0], y[sample_domain > 0]
    inner = rows - np.stack([rows[labels == k].mean(0) for k in range(4)])[labels]
    within = inner.T @ inner / len(inner)
    within = 0.7 * within + 0.3 * np.trace(within) / 6 * np.eye(6)
    metric = SourceMetric(shrinkage=0.3).fit(X, y, sample_domain=sample_domain)
    Z = metric.transform(X)
    gap = X[0] - X[1]
    expected = np.sqrt(gap @ np.linalg.solve(within, gap))
    np.testing.assert_allclose(np.linalg.norm(Z[0] - Z[1]), expected, rtol=1e-12)


def test_auto_takes_the_shrinkage_of_ledoit_and_wolf(two_domains):
    X, y, sample_domain = two_domains
    rows, labels = X[sample_domain > 0], y[sample_domain > 0]
    inner = rows - np.stack([rows[labels == k].mean(0) for k in range(4)])[labels]
    metric = SourceMetric(shrinkage="auto").fit(X, y, sample_domain=sample_domain)
    assert metric.shrinkage_ == pytest.approx(ledoit_wolf_shrinkage(inner, assume_centered=True))


def test_constant_columns_do_no_harm_with_shrinkage(two_domains):
    X, y, sample_domain = two_domains
    wider = np.column_stack([X, np.full(100, 7.0), np.zeros(100)])
    metric = SourceMetric(shrinkage=0.1)
    Z = metric.fit_transform(wider, y, sample_domain=sample_domain)
    assert np.ptp(Z[:, 6:], axis=0).max() < 1e-9
    with pytest.raises(ValueError, match="drop constant columns"):
        metric.set_params(shrinkage=0.0).fit(wider, y, sample_domain=sample_domain)


def test_nca_is_that_of_scikit_learn_on_the_source(two_domains):
    X, y, sample_domain = two_domains
    source = sample_domain > 0
    oracle = NeighborhoodComponentsAnalysis(3, max_iter=5, random_state=0)
    oracle.fit(X[source], y[source])
    metric = SourceMetric("nca", n_components=3, max_iter=5, random_state=0)
    metric.fit(X, y, sample_domain=sample_domain)
    angles = subspace_angles(metric.components_.T, oracle.components_.T)
    assert angles.max() < 1e-5
    assert metric.n_iter_ == oracle.n_iter_
    np.testing.assert_allclose(
        metric.components_.T @ metric.components_,
        oracle.components_.T @ oracle.components_,
        rtol=1e-4,
        atol=1e-8,
    )


@pytest.mark.parametrize("method", METHODS)
def test_both_domains_are_mapped_alike(method, two_domains):
    X, y, sample_domain = two_domains
    metric = SourceMetric(method, max_iter=3)
    Z = metric.fit_transform(X, y, sample_domain=sample_domain)
    np.testing.assert_allclose(Z, metric.transform(X), rtol=1e-12)
    np.testing.assert_allclose(Z, X @ metric.components_.T, rtol=1e-12)


@pytest.mark.parametrize(
    "metric",
    [
        SourceMetric(),
        SourceMetric(n_components=3),
        SourceMetric("nca", random_state=0),
        SourceMetric("nca", max_samples=30, random_state=0),
    ],
    ids=str,
)
def test_the_order_of_rows_changes_nothing(metric, two_domains):
    X, y, sample_domain = two_domains
    order = np.random.RandomState(5).permutation(len(X))
    Z = metric.fit_transform(X, y, sample_domain=sample_domain)
    moved = clone(metric).fit_transform(X[order], y[order], sample_domain=sample_domain[order])
    np.testing.assert_allclose(moved, Z[order], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_labels_of_target_rows_are_not_looked_at_unless_asked(method, two_domains):
    X, y, sample_domain = two_domains
    other = np.where(sample_domain < 0, 3 - y, y).astype(float)
    other[np.flatnonzero(sample_domain < 0)[0]] = np.nan
    metric = SourceMetric(method, max_iter=3)
    Z = metric.fit_transform(X, y, sample_domain=sample_domain)
    np.testing.assert_array_equal(metric.fit_transform(X, other, sample_domain=sample_domain), Z)
    labelled = sample_domain < 0
    told = metric.fit_transform(X, y, sample_domain=sample_domain, target_labeled=labelled)
    assert not np.allclose(told, Z)
    with pytest.warns(DomainWarning):
        all_rows = metric.fit(X, y).transform(X)
    np.testing.assert_allclose(told, all_rows, rtol=1e-8)


@pytest.mark.parametrize("labels", [["a", "b", "c", "d"], [-1, 1, 3, 7]])
def test_labels_may_be_anything(labels, two_domains):
    X, y, sample_domain = two_domains
    named = np.array(labels)[y]
    expected = SourceMetric().fit_transform(X, y, sample_domain=sample_domain)
    metric = SourceMetric()
    np.testing.assert_array_equal(
        metric.fit_transform(X, named, sample_domain=sample_domain), expected
    )
    assert metric.classes_.tolist() == labels


def test_rows_drawn_for_nca_keep_every_class_in_proportion():
    y = np.repeat([0, 1, 2], [900, 90, 10])
    X = np.random.RandomState(0).normal(size=(1000, 3)) + y[:, None]
    seen = []

    class Watched(NeighborhoodComponentsAnalysis):
        def fit(self, X, y):
            seen.append(np.bincount(y))
            return super().fit(X, y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sktransfer.adaptation.relation.NeighborhoodComponentsAnalysis", Watched)
        metric = SourceMetric("nca", max_samples=100, max_iter=1, random_state=0)
        metric.fit(np.vstack([X, X]), np.tile(y, 2), sample_domain=np.repeat([1, -1], 1000))
    np.testing.assert_allclose(seen[0], [90, 9, 1], atol=1)


def test_the_global_generator_is_left_alone(two_domains):
    X, y, sample_domain = two_domains
    np.random.seed(0)
    expected = np.random.RandomState(0).random_sample()
    SourceMetric("nca", max_samples=20, max_iter=1, random_state=1).fit(
        X, y, sample_domain=sample_domain
    )
    assert np.random.random_sample() == expected


def test_neighbours_are_better_where_noise_is_larger_than_what_matters():
    random = np.random.RandomState(0)
    y = random.randint(0, 3, 400)
    X = np.column_stack([y + 0.2 * random.normal(size=400), 4 * random.normal(size=(400, 5))])
    sample_domain = np.repeat([1, -1], 200)
    source = sample_domain > 0
    scores = {}
    for name, Z in {
        "raw": X,
        "discriminative": SourceMetric(shrinkage=0.0).fit_transform(
            X, y, sample_domain=sample_domain
        ),
        "nca": SourceMetric("nca").fit_transform(X, y, sample_domain=sample_domain),
    }.items():
        neighbours = KNeighborsClassifier().fit(Z[source], y[source])
        scores[name] = neighbours.score(Z[~source], y[~source])
    assert scores["raw"] < 0.5
    assert min(scores["discriminative"], scores["nca"]) > 0.85


def test_float32_stays_float32_and_what_is_given_is_not_written_to(two_domains):
    X, y, sample_domain = two_domains
    X = X.astype(np.float32)
    for array in (X, y, sample_domain):
        array.flags.writeable = False
    assert SourceMetric().fit_transform(X, y, sample_domain=sample_domain).dtype == np.float32


def test_a_fit_with_nca_forgets_the_shrinkage_of_an_earlier_one(two_domains):
    X, y, sample_domain = two_domains
    metric = SourceMetric().fit(X, y, sample_domain=sample_domain)
    assert 0 < metric.shrinkage_ < 1
    metric.set_params(method="nca", max_iter=2).fit(X, y, sample_domain=sample_domain)
    assert not hasattr(metric, "shrinkage_")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "lmnn"}, "method must be one of .*'nca'.* got 'lmnn'"),
        ({"n_components": 4}, "n_components must be at most 3 for method='discriminative'"),
        ({"method": "nca", "n_components": 7}, "n_components must be at most 6 for method='nca'"),
        ({"n_components": 0}, "n_components == 0, must be >= 1"),
        ({"shrinkage": 1.5}, "shrinkage == 1.5, must be <= 1"),
        ({"shrinkage": "ledoit"}, "shrinkage must be one of"),
        ({"max_samples": 1}, "max_samples == 1"),
        ({"max_iter": 0}, "max_iter == 0"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_rule(parameters, message, two_domains):
    X, y, sample_domain = two_domains
    with pytest.raises(ValueError, match=message):
        SourceMetric(**parameters).fit(X, y, sample_domain=sample_domain)


def test_a_scatter_that_cannot_be_inverted_is_explained(two_domains):
    _, y, sample_domain = two_domains
    wide = np.random.RandomState(0).normal(size=(100, 80))
    with pytest.raises(ValueError, match="60 labelled rows of 80 features are too few. Raise"):
        SourceMetric(shrinkage=0.0).fit(wide, y, sample_domain=sample_domain)
    SourceMetric().fit(wide, y, sample_domain=sample_domain)


def test_one_class_and_continuous_labels_are_refused(two_domains):
    X, _, sample_domain = two_domains
    with pytest.raises(ValueError, match="at least two classes, got 1 class"):
        SourceMetric().fit(X, np.zeros(100), sample_domain=sample_domain)
    with pytest.raises(ValueError, match="Unknown label type"):
        SourceMetric().fit(X, X[:, 0], sample_domain=sample_domain)


def test_far_from_the_origin_nca_learns_the_same(two_domains):
    X, y, sample_domain = two_domains
    near, far = (
        SourceMetric("nca", random_state=0).fit(rows, y, sample_domain=sample_domain).components_
        for rows in (X, X + 1e8)
    )
    np.testing.assert_allclose(far, near, rtol=1e-3, atol=1e-3 * np.abs(near).max())
