"""Measures of transferability against scikit-learn, SciPy and plain formulas."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.covariance import LedoitWolf
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_iris, load_wine
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import confusion_matrix, mutual_info_score

from sktransfer.metrics import h_score, leep, logme, nce, transrate

IRIS = load_iris(return_X_y=True)
WINE = load_wine(return_X_y=True)
RNG = np.random.RandomState(0)
NOISE = RNG.normal(size=(60, 90))
THIRDS = np.arange(60) % 3
NAMES = np.array(["ant", "bee", "cat"])


def evidence(X, columns):
    """Mean log evidence per row, by scikit-learn's own iteration, run to its end."""
    scores = []
    for column in columns.T:
        ridge = BayesianRidge(
            fit_intercept=False,
            alpha_1=0,
            alpha_2=0,
            lambda_1=0,
            lambda_2=0,
            compute_score=True,
            tol=1e-13,
            max_iter=100_000,
        )
        scores.append(ridge.fit(X, column).scores_[-1] / len(X))
    return np.mean(scores)


def by_class(X, columns):
    """The evidence at its maximum, from the definition, by a fine search over the ratio."""
    values, vectors = np.linalg.eigh(X @ X.T)
    values, shares = np.maximum(values, 0), (vectors.T @ columns) ** 2
    n = len(X)
    best = np.full(columns.shape[1], -np.inf)
    for ratio in np.exp(np.linspace(-15, 15, 6001)):
        scale = 1 + values / ratio
        error = (shares / scale[:, None]).sum(0)
        found = -0.5 * (n * (np.log(2 * np.pi * error / n) + 1) + np.log(scale).sum())
        best = np.maximum(best, found)
    return best.mean() / n


CASES = {
    "long": IRIS,
    "with a constant column": (np.column_stack([IRIS[0], np.ones(150)]), IRIS[1]),
    "features of unlike scales": WINE,
    "square": (NOISE[:, :60], THIRDS),
    "nearly as many features as rows": (NOISE[:, :55] + THIRDS[:, None] / 4, THIRDS),
    "wide": (NOISE + 0.5 * THIRDS[:, None], THIRDS),
}


@pytest.mark.parametrize("case", CASES)
def test_logme_is_the_evidence_of_bayesian_ridge_at_its_fixpoint(case):
    X, y = CASES[case]
    assert_allclose(logme(X, y), evidence(X, np.eye(3)[y]), rtol=1e-11)


def test_logme_of_numbers_is_the_evidence_of_each_column():
    X = IRIS[0][:, :3]
    Y = np.column_stack([IRIS[0][:, 3], RNG.normal(size=150)])
    assert_allclose(logme(X, Y), evidence(X, Y), rtol=1e-11)
    assert_allclose(logme(X, Y[:, 0]), evidence(X, Y[:, :1]), rtol=1e-11)
    assert logme(X, IRIS[1], task="regression") == pytest.approx(evidence(X, IRIS[1][:, None]))


def test_logme_is_the_greatest_evidence_of_all():
    X, y = NOISE[:30, :50], THIRDS[:30]
    searched = by_class(X, np.eye(3)[y])
    assert_allclose(logme(X, y), searched, rtol=1e-6)
    assert logme(X, y) >= searched - 1e-12


@pytest.mark.parametrize("shape", [(100, 5), (100, 120), (5, 4)])
def test_logme_is_finite_and_great_where_y_is_a_linear_function(shape):
    X = np.random.RandomState(1).normal(size=shape)
    y = X @ np.ones(shape[1]) * 1e-3
    assert np.isfinite(logme(X, y))
    assert logme(X, y) > logme(X, np.random.RandomState(2).permutation(y))


def test_logme_of_features_that_are_all_zero_is_that_of_noise():
    y = IRIS[0][:, 0]
    noise = -0.5 * (np.log(2 * np.pi * (y**2).mean()) + 1)
    assert_allclose(logme(np.zeros((150, 2)), y), noise)


def test_logme_refuses_a_column_of_zeros_and_an_unknown_task():
    with pytest.raises(ValueError, match="column 1 of y is 0 in all rows"):
        logme(IRIS[0], np.column_stack([IRIS[0][:, 0], np.zeros(150)]))
    with pytest.raises(ValueError, match=r"task must be one of .* got 'both'"):
        logme(*IRIS, task="both")
    with pytest.raises(ValueError, match="y must hold labels, got continuous"):
        logme(IRIS[0], IRIS[0][:, 0], task="classification")


@pytest.mark.parametrize("case", ["long", "features of unlike scales"])
def test_h_score_is_the_sum_of_squared_canonical_correlations(case):
    X, y = CASES[case]
    X = (X - X.mean(0)) / X.std(0)
    members = np.eye(3)[y][:, :2]
    left = np.linalg.svd(X, full_matrices=False)[0]
    right = np.linalg.svd(members - members.mean(0), full_matrices=False)[0]
    correlations = np.linalg.svd(left.T @ right, compute_uv=False)
    assert_allclose(h_score(X, y), (correlations**2).sum(), rtol=1e-12)
    variates = CCA(n_components=2, scale=False, max_iter=5000, tol=1e-14).fit(X, members)
    ours, theirs = variates.transform(X, members)
    again = [np.corrcoef(ours[:, i], theirs[:, i])[0, 1] for i in range(2)]
    assert_allclose(h_score(X, y), np.square(again).sum(), rtol=1e-6)


def test_h_score_is_the_trace_of_its_definition():
    X, y = IRIS
    means = np.stack([X[y == c].mean(0) for c in range(3)])[y]
    covariance, between = np.cov(X.T, bias=True), np.cov(means.T, bias=True)
    assert_allclose(h_score(X, y), np.trace(np.linalg.inv(covariance) @ between), rtol=1e-11)
    shrunk = LedoitWolf().fit(X)
    regular = (1 - shrunk.shrinkage_) * np.trace(np.linalg.inv(shrunk.covariance_) @ between)
    assert_allclose(h_score(X, y, shrinkage="auto"), regular, rtol=1e-11)
    drawn = 0.7 * covariance + 0.3 * np.trace(covariance) / 4 * np.eye(4)
    expected = 0.7 * np.trace(np.linalg.inv(drawn) @ between)
    assert_allclose(h_score(X, y, shrinkage=0.3), expected, rtol=1e-11)


def test_regularised_h_score_works_with_more_features_than_rows():
    means = np.stack([NOISE[c::3].mean(0) for c in range(3)])[THIRDS]
    shrunk = LedoitWolf().fit(NOISE)
    between = np.cov(means.T, bias=True)
    expected = (1 - shrunk.shrinkage_) * np.trace(np.linalg.inv(shrunk.covariance_) @ between)
    assert_allclose(h_score(NOISE, THIRDS, shrinkage="auto"), expected, rtol=1e-10)
    assert_allclose(h_score(NOISE, THIRDS), 2)  # any labels can be told apart


def test_h_score_ignores_units_and_columns_that_say_nothing_new():
    X, y = IRIS
    expected = h_score(X, y)
    copies = np.column_stack([X * [1e-6, 1, 1e6, 1], X[:, 0], np.full(150, 0.1), X[:, :2] @ [1, 2]])
    assert_allclose(h_score(copies, y), expected, rtol=1e-9)
    assert h_score(np.full((150, 2), 0.1), y) == 0
    assert h_score(np.full((150, 2), 0.1), y, shrinkage="auto") == 0
    assert h_score(X, np.zeros(150)) == pytest.approx(0)


def test_regularised_h_score_of_whitened_features_is_zero():
    X = np.random.RandomState(0).normal(size=(100, 4))
    values, vectors = np.linalg.eigh(np.cov(X.T))
    white = X @ vectors / np.sqrt(values)
    for rows in (white, white.astype(np.float32)):
        assert h_score(rows, rows[:, 0] > 0) > 0.5
        assert h_score(rows, rows[:, 0] > 0, shrinkage="auto") == 0
    one = X[:, :1]  # nothing to draw to
    assert h_score(one, X[:, 0] > 0, shrinkage="auto") == pytest.approx(h_score(one, X[:, 0] > 0))


@pytest.mark.parametrize("shrinkage", ["much", -0.1, 1.5])
def test_h_score_refuses_a_shrinkage_that_is_none(shrinkage):
    with pytest.raises(ValueError, match=r"shrinkage.*" + str(shrinkage)):
        h_score(*IRIS, shrinkage=shrinkage)


def test_leep_is_that_of_a_weighted_confusion_matrix():
    P = RNG.dirichlet(np.ones(5), size=60)
    cells = (np.repeat(THIRDS, 5), np.tile(np.arange(5), 60))
    joint = confusion_matrix(*cells, sample_weight=P.ravel(), labels=range(5))[:3]
    expected = np.log((P * (joint / joint.sum(0))[THIRDS]).sum(1)).mean()
    assert_allclose(leep(P, THIRDS), expected, rtol=1e-14)
    # A class that is never predicted changes nothing.
    assert_allclose(leep(np.insert(P, 2, 0.0, axis=1), THIRDS), expected, rtol=1e-14)


def test_leep_of_sure_predictions_is_nce():
    z = RNG.randint(0, 4, 60)
    assert_allclose(leep(np.eye(6)[z], THIRDS), nce(z, THIRDS), rtol=1e-13)


@pytest.mark.parametrize("P", [[[0.5, 0.4], [0.5, 0.5]], [[1.5, -0.5], [0.5, 0.5]]])
def test_leep_refuses_what_are_no_probabilities(P):
    with pytest.raises(ValueError, match="P must hold probabilities"):
        leep(P, [0, 1])


def test_nce_is_mutual_information_less_the_entropy_of_labels():
    z = RNG.randint(0, 4, 60)
    assert_allclose(nce(z, THIRDS), mutual_info_score(z, THIRDS) - np.log(3), rtol=1e-13)
    assert nce(THIRDS, THIRDS) == pytest.approx(0, abs=1e-15)
    assert nce(np.zeros(60), THIRDS) == pytest.approx(-np.log(3))


def plain_rate(Z, eps):
    n, d = Z.shape
    return 0.5 * np.linalg.slogdet(np.eye(d) + Z.T @ Z / (n * eps))[1]


@pytest.mark.parametrize(("X", "y"), [IRIS, (NOISE, THIRDS), (NOISE[:40, :8], THIRDS[:40] == 0)])
@pytest.mark.parametrize("eps", [1e-4, 0.1])
def test_transrate_is_the_difference_of_coding_rates(X, y, eps):
    Z = X - X.mean(0)
    classes, counts = np.unique(y, return_counts=True)
    within = [n / len(y) * plain_rate(Z[y == c], eps) for c, n in zip(classes, counts, strict=True)]
    assert_allclose(transrate(X, y, eps=eps), plain_rate(Z, eps) - sum(within), rtol=1e-9)


def test_transrate_is_never_negative_and_zero_for_one_class():
    few = np.arange(60) < 3
    assert transrate(NOISE[:, :2], few) >= 0
    assert transrate(NOISE, np.zeros(60)) == 0
    with pytest.raises(ValueError, match="eps"):
        transrate(*IRIS, eps=0)


BY_LABELS = {
    "logme": logme,
    "h_score": h_score,
    "regularised h_score": lambda X, y: h_score(X, y, shrinkage="auto"),
    "leep": lambda X, y: leep(np.exp(X) / np.exp(X).sum(1, keepdims=True), y),
    "nce": lambda X, y: nce(np.asarray(X)[:, 0].round(), y),
    "transrate": transrate,
}


@pytest.mark.parametrize("name", BY_LABELS)
def test_measures_take_labels_of_any_kind_in_any_order(name):
    measure, (X, y) = BY_LABELS[name], IRIS
    expected = measure(X, y)
    order = RNG.permutation(150)
    for labels in (NAMES[y], NAMES[y].astype(object), np.array([7, 3, -2])[y], y.astype(float)):
        assert_allclose(measure(X, labels), expected, rtol=1e-12)
        assert_allclose(measure(X[order], labels[order]), expected, rtol=1e-11)
    assert isinstance(expected, float)
    two = y > 0
    assert_allclose(measure(X, np.where(two, 1, -1)), measure(X, two), rtol=1e-12)


@pytest.mark.parametrize("name", BY_LABELS)
def test_measures_compute_in_double_and_leave_their_input_alone(name):
    X, y = IRIS[0].copy(), NAMES[IRIS[1]]
    X.flags.writeable = y.flags.writeable = False
    low = X.astype(np.float32)
    assert_allclose(BY_LABELS[name](low, y), BY_LABELS[name](low.astype(float), y), rtol=1e-5)
    BY_LABELS[name](X, y)


@pytest.mark.parametrize("measure", [logme, h_score, transrate, nce])
def test_measures_refuse_rows_without_labels_and_nan(measure):
    X, y = IRIS
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        measure(y if measure is nce else X, y[:-1])
    if measure is not nce:
        with pytest.raises(ValueError, match="NaN"):
            measure(np.where(X > 7, np.nan, X), y)
