"""LabelPropagationClassifier: labels along a graph of similar rows."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier
from sklearn.semi_supervised import LabelPropagation, LabelSpreading
from sklearn.utils import estimator_checks as checks

from sktransfer.adaptation.propagation import LabelPropagationClassifier
from sktransfer.exceptions import DomainWarning

METHODS = ["propagation", "spreading"]


@pytest.fixture
def two_domains():
    """90 + 60 rows of three classes, in random order."""
    X, y = make_blobs(150, 4, centers=3, cluster_std=3.0, random_state=3)
    sample_domain = np.random.RandomState(2).permutation(np.repeat([1, -1], [90, 60]))
    X[sample_domain < 0] += 0.5
    return X, y, sample_domain


def full_graph(method, **parameters):
    """All rows are neighbours, and the vote has no share: the textbook's equations."""
    return LabelPropagationClassifier(
        method, n_neighbors=1000, affinity="rbf", gamma=0.02, vote_share=0.0, **parameters
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.DomainWarning")
@pytest.mark.parametrize("method", METHODS)
def test_check_estimator_passes_and_skips_nothing(method, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    results = checks.check_estimator(LabelPropagationClassifier(method), on_skip=None, on_fail=None)
    other = [(r["check_name"], r["status"], r["exception"]) for r in results]
    assert [entry for entry in other if entry[1] != "passed"] == []
    assert len(results) >= 50


def test_spreading_is_the_closed_form_and_that_of_scikit_learn(two_domains):
    X, y, sample_domain = two_domains
    source = sample_domain > 0
    found = full_graph("spreading", alpha=0.4, tol=1e-12).fit(X, y, sample_domain=sample_domain)
    W = rbf_kernel(X, gamma=0.02)
    np.fill_diagonal(W, 0)
    roots = np.sqrt(W.sum(1))
    one_hot = np.eye(3)[y] * source[:, None]
    F = np.linalg.solve(np.eye(150) - 0.4 * W / roots / roots[:, None], one_hot)
    F /= F.sum(1, keepdims=True)
    # Edges below 1e-8 of all at their ends are left out.
    np.testing.assert_allclose(found.label_distributions_, F, atol=1e-6)
    oracle = LabelSpreading(gamma=0.02, alpha=0.4, tol=1e-12, max_iter=1000)
    oracle.fit(X, np.where(source, y, -1))
    np.testing.assert_allclose(found.label_distributions_, oracle.label_distributions_, atol=1e-6)
    np.testing.assert_array_equal(found.transduction_, oracle.transduction_)


def test_propagation_is_the_harmonic_solution_and_that_of_scikit_learn(two_domains):
    X, y, sample_domain = two_domains
    source = sample_domain > 0
    found = full_graph("propagation", tol=1e-12).fit(X, y, sample_domain=sample_domain)
    W = rbf_kernel(X, gamma=0.02)
    laplacian = np.diag(W.sum(1)) - W
    F = np.linalg.solve(
        laplacian[np.ix_(~source, ~source)], W[np.ix_(~source, source)] @ np.eye(3)[y[source]]
    )
    np.testing.assert_allclose(found.label_distributions_[~source], F, atol=1e-6)
    np.testing.assert_array_equal(found.label_distributions_[source], np.eye(3)[y[source]])
    oracle = LabelPropagation(gamma=0.02, tol=1e-10, max_iter=10_000)
    oracle.fit(X, np.where(source, y, -1))
    np.testing.assert_allclose(found.label_distributions_, oracle.label_distributions_, atol=1e-6)


@pytest.mark.parametrize("affinity", ["local", "connectivity"])
@pytest.mark.parametrize("method", METHODS)
def test_on_a_sparse_graph_it_agrees_with_scikit_learn(method, affinity, two_domains):
    X, y, sample_domain = two_domains
    source = sample_domain > 0
    classifier = LabelPropagationClassifier(
        method, n_neighbors=6, affinity=affinity, vote_share=0.0, alpha=0.8, tol=1e-12
    ).fit(X, y, sample_domain=sample_domain)
    squares = ((X[:, None] - X) ** 2).sum(2)
    np.fill_diagonal(squares, np.inf)
    near = squares <= np.sort(squares, axis=1)[:, [5]]
    scales = np.sqrt(np.sort(squares, axis=1)[:, 5])
    W = np.ones_like(squares)
    if affinity == "local":
        W = np.exp(-squares / np.outer(scales, scales))
    W = W * (near | near.T)
    kernel = {"kernel": lambda a, b: W, "tol": 1e-12, "max_iter": 100_000}
    oracle = (
        LabelSpreading(alpha=0.8, **kernel) if method == "spreading" else LabelPropagation(**kernel)
    )
    oracle.fit(X, np.where(source, y, -1))
    np.testing.assert_allclose(
        classifier.label_distributions_, oracle.label_distributions_, atol=1e-6
    )


def test_the_vote_is_a_neighbour_whose_edge_has_its_share(two_domains):
    X, y, sample_domain = two_domains
    source = sample_domain > 0
    classifier = LabelPropagationClassifier(
        n_neighbors=7, affinity="connectivity", vote_share=0.25, tol=1e-12
    ).fit(X, y, sample_domain=sample_domain)
    votes = KNeighborsClassifier(7).fit(X[source], y[source]).predict_proba(X[~source])
    near = KNeighborsClassifier(7).fit(X, y).kneighbors_graph().toarray()
    P = np.maximum(near, near.T)
    P = (P / P.sum(1, keepdims=True))[~source]
    F = classifier.label_distributions_
    np.testing.assert_allclose(0.75 * P @ F + 0.25 * votes, F[~source], atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_the_sign_of_a_zero_changes_nothing(method):
    random = np.random.RandomState(0)
    X = random.randint(0, 3, (120, 3)).astype(float)  # many at equal distance, and many equal
    y = (X.sum(1) + random.randint(0, 3, 120) > 4).astype(int)
    sample_domain = np.where(random.uniform(size=120) < 0.5, 1, -1)
    signed = np.where((X == 0) & (random.uniform(size=X.shape) < 0.5), -0.0, X)
    one, other = (
        LabelPropagationClassifier(method, n_neighbors=4).fit(rows, y, sample_domain=sample_domain)
        for rows in (X, signed)
    )
    np.testing.assert_array_equal(one.label_distributions_, other.label_distributions_)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("affinity", ["local", "rbf", "connectivity"])
def test_the_order_of_rows_changes_nothing_even_with_ties(method, affinity):
    random = np.random.RandomState(0)
    X = random.randint(0, 4, (120, 3)).astype(float)  # many at equal distance, and many equal
    y = (X.sum(1) + random.randint(0, 3, 120) > 5).astype(int)
    sample_domain = np.where(random.uniform(size=120) < 0.5, 1, -1)
    order = random.permutation(120)
    classifier = LabelPropagationClassifier(method, n_neighbors=4, affinity=affinity)
    F = classifier.fit(X, y, sample_domain=sample_domain).label_distributions_
    predicted = classifier.predict_proba(X + 0.1)
    classifier.fit(X[order], y[order], sample_domain=sample_domain[order])
    np.testing.assert_allclose(classifier.label_distributions_, F[order], atol=1e-12)
    np.testing.assert_allclose(classifier.predict_proba(X + 0.1), predicted, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_fit_are_predicted_as_they_were_inferred(method, two_domains):
    X, y, sample_domain = two_domains
    classifier = LabelPropagationClassifier(method).fit(X, y, sample_domain=sample_domain)
    np.testing.assert_allclose(
        classifier.predict_proba(X), classifier.label_distributions_, rtol=1e-12
    )
    np.testing.assert_array_equal(classifier.predict(X), classifier.transduction_)


def test_new_rows_get_the_weighted_mean_of_their_neighbours(two_domains):
    X, y, sample_domain = two_domains
    classifier = full_graph("propagation").fit(X, y, sample_domain=sample_domain)
    new = X[:20] + 0.3
    weights = rbf_kernel(new, X, gamma=0.02)
    expected = weights @ classifier.label_distributions_ / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(new), expected, rtol=1e-10)


def test_labels_follow_a_shape_where_the_nearest_labels_mislead():
    X, y = make_moons(600, noise=0.05, random_state=0)
    source = X[:, 0] * np.where(y == 0, 1, -1) > np.where(y == 0, 0.5, -0.5)  # half of each moon
    sample_domain = np.where(source, 1, -1)
    nearest = KNeighborsClassifier(1).fit(X[source], y[source]).score(X[~source], y[~source])
    for method in METHODS:
        classifier = LabelPropagationClassifier(method, alpha=0.99, vote_share=0.0)
        classifier.fit(X, y, sample_domain=sample_domain)
        assert classifier.score(X[~source], y[~source]) > max(nearest + 0.1, 0.95)


@pytest.mark.parametrize("vote_share", [0.0, 0.1])
@pytest.mark.parametrize("method", METHODS)
def test_a_target_far_away_is_labelled_by_the_vote(method, vote_share):
    X, y = make_blobs(200, centers=[[0, 0], [8, 0]], random_state=0)
    sample_domain = np.repeat([1, -1], 100)
    X[100:] += [0, 40]
    classifier = LabelPropagationClassifier(method, n_neighbors=5, vote_share=vote_share)
    classifier.fit(X, y, sample_domain=sample_domain)
    assert classifier.n_unreached_ == 100
    assert classifier.score(X[100:], y[100:]) == 1.0


def test_labels_of_target_rows_are_not_looked_at_unless_asked(two_domains):
    X, y, sample_domain = two_domains
    target = sample_domain < 0
    flipped = np.where(target, np.nan, y.astype(float))
    classifier = LabelPropagationClassifier()
    expected = classifier.fit(X, y, sample_domain=sample_domain).label_distributions_
    found = classifier.fit(X, flipped, sample_domain=sample_domain).label_distributions_
    np.testing.assert_array_equal(found, expected)
    told = target & (np.arange(len(y)) % 2 == 0)
    wrong = np.where(told, 2 - y, y)
    classifier.fit(X, wrong, sample_domain=sample_domain, target_labeled=told)
    np.testing.assert_array_equal(classifier.transduction_[told], wrong[told])


def test_without_domains_all_rows_keep_their_labels(two_domains):
    X, y, _ = two_domains
    with pytest.warns(DomainWarning, match="without sample_domain"):
        classifier = LabelPropagationClassifier().fit(X, y)
    np.testing.assert_array_equal(classifier.transduction_, y)


@pytest.mark.parametrize("labels", [["a", "b", "c"], [-1, 1, 7]])
def test_labels_may_be_anything(labels, two_domains):
    X, y, sample_domain = two_domains
    expected = LabelPropagationClassifier().fit(X, y, sample_domain=sample_domain).transduction_
    named = np.array(labels)[y]
    classifier = LabelPropagationClassifier().fit(X, named, sample_domain=sample_domain)
    np.testing.assert_array_equal(classifier.transduction_, np.array(labels)[expected])


def test_float32_clone_pickle_and_read_only_rows(two_domains):
    X, y, sample_domain = two_domains
    X = X.astype(np.float32)
    for array in (X, y, sample_domain):
        array.flags.writeable = False
    classifier = clone(LabelPropagationClassifier(n_neighbors=5))
    shares = classifier.fit(X, y, sample_domain=sample_domain).predict_proba(X + 1)
    assert shares.dtype == np.float32
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(X + 1), shares)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_steps_are_warned_of_and_still_give_probabilities(method, two_domains):
    X, y, sample_domain = two_domains
    classifier = LabelPropagationClassifier(method, max_iter=1, vote_share=0.0)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        classifier.fit(X, y, sample_domain=sample_domain)
    np.testing.assert_allclose(classifier.label_distributions_.sum(1), 1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "harmonic"}, "method must be one of .* got 'harmonic'"),
        ({"affinity": "cosine"}, "affinity must be one of .* got 'cosine'"),
        ({"n_neighbors": 0}, "n_neighbors == 0, must be >= 1"),
        ({"gamma": 0.0}, "gamma == 0.0, must be > 0"),
        ({"vote_share": 1.0}, "vote_share == 1.0, must be < 1"),
        ({"alpha": 1.0}, "alpha == 1.0, must be < 1"),
        ({"max_iter": 0}, "max_iter == 0"),
        ({"tol": -1.0}, "tol == -1.0"),
        ({"gamma": np.nan}, "gamma must be a number, got nan"),
        ({"vote_share": np.nan}, "vote_share must be a number, got nan"),
        ({"alpha": np.nan}, "alpha must be a number, got nan"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_rule(parameters, message, two_domains):
    X, y, sample_domain = two_domains
    with pytest.raises(ValueError, match=message):
        LabelPropagationClassifier(**parameters).fit(X, y, sample_domain=sample_domain)
