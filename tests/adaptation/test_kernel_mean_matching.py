"""Kernel mean matching beside a general solver of quadratic programmes."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from sktransfer.adaptation._kernel_matrices import FullKernel, LowRankKernel, kernel_of
from sktransfer.adaptation._matching import solve_matching
from sktransfer.adaptation.kernel_mean_matching import KernelMeanMatching

# Number of rows, of features, gamma, bound, epsilon: with bounds and sums that hold and do not.
PROBLEMS = [
    (60, 2, 5.0, 1000.0, 0.87),
    (100, 5, 0.3, 3.0, 0.1),
    (100, 2, 50.0, 2.0, 0.05),
    (120, 3, 0.5, 1000.0, 0.9),
    (40, 4, 0.2, 1.5, 1e-4),
]


def problem(n, n_features, seed=0):
    random = np.random.RandomState(seed)
    return random.randn(n, n_features), random.randn(70, n_features) * 0.7 + 0.7


def stacked(source, target):
    return np.concatenate([source, target]), np.repeat([1, -1], [len(source), len(target)])


def by_quadprog(K, kappa, bound, low, high):
    quadprog = pytest.importorskip("quadprog")
    n = len(K)
    constraints = np.concatenate([np.eye(n), -np.eye(n), np.ones((1, n)), -np.ones((1, n))])
    limits = np.concatenate([np.zeros(n), np.full(n, -bound), [low, -high]])
    return quadprog.solve_qp(K, kappa, constraints.T, limits)[0]


@pytest.mark.parametrize(("n", "n_features", "gamma", "bound", "epsilon"), PROBLEMS)
def test_weights_are_those_of_quadprog(n, n_features, gamma, bound, epsilon):
    source, target = problem(n, n_features)
    # A little more on the diagonal makes the solution unique, also to digits that count here.
    K = rbf_kernel(source, gamma=gamma) + 1e-5 * np.eye(n)
    kappa = n * rbf_kernel(source, target, gamma=gamma).mean(axis=1)
    limits = {"bound": bound, "low": n * (1 - epsilon), "high": n * (1 + epsilon)}
    weights, n_iter = solve_matching(FullKernel(K), kappa, **limits)
    expected = by_quadprog(K, kappa, **limits)
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert weights @ K @ weights / 2 - kappa @ weights == pytest.approx(
        expected @ K @ expected / 2 - kappa @ expected, rel=1e-12
    )
    assert n_iter < 40


@pytest.mark.parametrize(("n", "n_features", "gamma", "bound", "epsilon"), PROBLEMS)
def test_objective_of_the_estimator_is_that_of_quadprog(n, n_features, gamma, bound, epsilon):
    source, target = problem(n, n_features)
    K = rbf_kernel(source, gamma=gamma) + 1e-11 * np.eye(n)  # quadprog needs it
    kappa = n * rbf_kernel(source, target, gamma=gamma).mean(axis=1)
    X, sample_domain = stacked(source, target)
    matching = KernelMeanMatching(gamma=gamma, bound=bound, epsilon=epsilon)
    matching.fit(X, sample_domain=sample_domain)
    weights = matching.sample_weight_[:n] * matching.mean_weight_
    expected = by_quadprog(K, kappa, bound, n * (1 - epsilon), n * (1 + epsilon))
    assert weights @ K @ weights / 2 - kappa @ weights == pytest.approx(
        expected @ K @ expected / 2 - kappa @ expected, rel=1e-9
    )
    assert weights.min() >= 0
    assert weights.max() <= bound * (1 + 1e-12)
    assert abs(matching.mean_weight_ - 1) <= epsilon * (1 + 1e-9)


def test_a_smooth_kernel_is_held_by_its_factor_and_a_narrow_one_in_full():
    source, _ = problem(100, 2)
    smooth, narrow = (kernel_of(source, gamma, 1000, 10) for gamma in (0.01, 100.0))
    assert isinstance(smooth, LowRankKernel)
    assert isinstance(narrow, FullKernel)
    vector = np.random.RandomState(0).randn(100)
    expected = rbf_kernel(source, gamma=0.01) @ vector
    np.testing.assert_allclose(smooth.product(vector), expected, atol=1e-10)
    diagonal = np.linspace(0.1, 1, 100)
    np.testing.assert_allclose(
        smooth.solver(diagonal)(expected + diagonal * vector), vector, atol=1e-9
    )


def test_beyond_max_size_a_factor_of_enough_columns_gives_the_same_weighted_mean():
    X, sample_domain = stacked(*problem(150, 1))
    full = KernelMeanMatching(gamma=0.5, bound=5).fit(X, sample_domain=sample_domain)
    factored = KernelMeanMatching(gamma=0.5, bound=5, max_size=10, n_components=40)
    factored.fit(X, sample_domain=sample_domain)
    # Weights themselves are not unique where rows lie close together.
    means = [
        rbf_kernel(X, X[:150], gamma=0.5) @ method.sample_weight_[:150]
        for method in (full, factored)
    ]
    np.testing.assert_allclose(means[1], means[0], rtol=1e-5)


def test_beyond_max_size_no_row_is_dropped_and_the_mean_is_still_matched():
    source, target = problem(203, 2)
    X, sample_domain = stacked(source, target)
    few = KernelMeanMatching(gamma=0.5, bound=5, max_size=100, n_components=15)
    full = KernelMeanMatching(gamma=0.5, bound=5)

    def discrepancy(weights):
        K = rbf_kernel(source, gamma=0.5)
        cross = rbf_kernel(source, target, gamma=0.5).mean(axis=1)
        share = weights / weights.sum()
        return share @ K @ share - 2 * share @ cross + rbf_kernel(target, gamma=0.5).mean()

    before = discrepancy(np.ones(203))
    after = [
        discrepancy(method.fit(X, sample_domain=sample_domain).sample_weight_[:203])
        for method in (full, few)
    ]
    assert after[0] <= after[1] < 0.02 * before
    weights = few.sample_weight_[:203]
    assert (weights >= 0).all()
    # Those at the end of the table are weighted like any other.
    np.testing.assert_allclose(
        few.fit(X[::-1], sample_domain=sample_domain[::-1]).sample_weight_[::-1][:203],
        weights,
        atol=1e-9,
    )


def test_gamma_median_is_that_of_the_median_distance():
    X = np.array([[0.0], [1.0], [3.0], [7.0]])
    matching = KernelMeanMatching().fit(X, sample_domain=[1, 1, -1, -1])
    # Distances 1, 2, 3, 4, 6, 7: half of the squares between those of 3 and 4.
    assert matching.gamma_ == pytest.approx(1 / (2 * (9 + 16) / 2))


def test_one_row_of_each_domain_is_enough():
    matching = KernelMeanMatching().fit([[0.0], [1.0]], sample_domain=[1, -1])
    assert matching.sample_weight_.tolist() == [1.0, 0.0]


def test_domains_that_do_not_overlap_are_an_error_that_says_so():
    X = np.array([[0.0], [0.1], [100.0], [100.1]])
    with pytest.raises(ValueError, match="do not overlap"):
        KernelMeanMatching(gamma=1.0).fit(X, sample_domain=[1, 1, -1, -1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": "wide"}, "gamma must be 'median' or a number above 0, got 'wide'"),
        ({"gamma": 0}, "gamma must be"),
        ({"gamma": np.nan}, "gamma must be"),
        ({"gamma": True}, "gamma must be"),
        ({"bound": 0.5, "epsilon": 0.1}, "bound must be finite and above 1 - epsilon = 0.9"),
        ({"bound": -1}, "bound"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"max_size": 0}, "max_size"),
        ({"n_components": 0}, "n_components"),
    ],
)
def test_a_wrong_parameter_is_an_error_that_names_it(options, message):
    X, sample_domain = stacked(*problem(10, 2))
    with pytest.raises(ValueError, match=message):
        KernelMeanMatching(**options).fit(X, sample_domain=sample_domain)
