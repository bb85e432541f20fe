"""KLIEP beside expectation maximisation and a general solver."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics.pairwise import rbf_kernel

from sktransfer.adaptation._kernels import canonical_order
from sktransfer.adaptation._mixture import mixture_proportions
from sktransfer.adaptation.kliep import KLIEP


@pytest.fixture
def shifted():
    random = np.random.RandomState(0)
    X = np.concatenate([random.randn(80, 2), random.randn(30, 2) * 0.6 + 0.7])
    return X, np.repeat([1, -1], [80, 30])


def kernels(kliep, X, sample_domain):
    """Of the target, and mean ones of the source, with the centres."""
    target, source = X[sample_domain < 0], X[sample_domain > 0]
    A = rbf_kernel(target, kliep.centers_, gamma=kliep.gamma_)
    return A, rbf_kernel(source, kliep.centers_, gamma=kliep.gamma_).mean(axis=0)


@pytest.mark.parametrize("gamma", [0.1, 1.0, 10.0])
def test_likelihood_is_that_of_slsqp_and_no_less(shifted, gamma):
    kliep = KLIEP(gamma=gamma, n_centers=8, random_state=0).fit(
        shifted[0], sample_domain=shifted[1]
    )
    A, b = kernels(kliep, *shifted)
    found = minimize(
        lambda alpha: -np.log(A @ alpha).mean(),
        np.full(8, 1 / b.sum()),
        jac=lambda alpha: -(A / (A @ alpha)[:, None]).mean(axis=0),
        bounds=[(0, None)] * 8,
        constraints={"type": "eq", "fun": lambda alpha: b @ alpha - 1, "jac": lambda _: b},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert kliep.score_ == pytest.approx(-found.fun, abs=1e-8)
    np.testing.assert_allclose(A @ kliep.dual_coef_, A @ found.x, rtol=1e-4)
    assert b @ kliep.dual_coef_ == pytest.approx(1, abs=1e-12)
    assert (kliep.dual_coef_ >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.1, 1.0, 10.0])
def test_ratio_is_that_of_expectation_maximisation(shifted, gamma):
    kliep = KLIEP(gamma=gamma).fit(shifted[0], sample_domain=shifted[1])
    A, b = kernels(kliep, *shifted)
    P, p = A / b, np.full(len(b), 1 / len(b))
    for _ in range(20_000):
        p *= (P / (P @ p)[:, None]).mean(axis=0)
    assert kliep.score_ == pytest.approx(np.log(P @ p).mean(), abs=1e-6)
    np.testing.assert_allclose(A @ kliep.dual_coef_, P @ p, rtol=1e-2)
    assert kliep.n_iter_ < 30


def test_no_proportions_have_a_greater_likelihood_than_by_the_tolerance():
    random = np.random.RandomState(0)
    for n, m in [(2, 2), (5, 9), (50, 20), (400, 60)]:
        P = np.exp(-10 * random.rand(n, m) ** 2)
        p, _ = mixture_proportions(P, tol=1e-10)
        # Of a concave function, the tangent at p bounds all others from above.
        assert (P / (P @ p)[:, None]).mean(axis=0).max() - 1 <= 1e-10
        assert p.sum() == pytest.approx(1)
        assert (p >= 0).all()


def test_weights_of_the_source_are_its_density_ratio(shifted):
    kliep = KLIEP(gamma=1.0).fit(shifted[0], sample_domain=shifted[1])
    ratio = kliep.density_ratio(shifted[0][:80])
    np.testing.assert_allclose(kliep.sample_weight_[:80], ratio, rtol=1e-10)
    assert ratio.mean() == pytest.approx(1)


def test_the_ratio_of_two_gaussians_is_found():
    random = np.random.RandomState(0)
    X = np.concatenate([random.randn(1000, 1), random.randn(1000, 1) * 0.5 + 0.5])
    kliep = KLIEP(random_state=0).fit(X, sample_domain=np.repeat([1, -1], 1000))
    grid = np.linspace(-1, 1.5, 26)[:, None]
    truth = 2 * np.exp(-2 * (grid - 0.5) ** 2 + grid**2 / 2)[:, 0]
    assert np.abs(kliep.density_ratio(grid) - truth).mean() < 0.25 * truth.mean()


def test_gamma_is_the_one_under_which_held_out_rows_are_likeliest(shifted):
    gammas = [1e-3, 1.0, 100.0]
    kliep = KLIEP(gamma=gammas, cv=3, random_state=0).fit(shifted[0], sample_domain=shifted[1])
    assert list(kliep.cv_scores_) == gammas
    assert kliep.gamma_ == 1.0
    assert kliep.cv_scores_[1.0] == max(kliep.cv_scores_.values())
    X, sample_domain = shifted
    target = X[sample_domain < 0]
    # The same by hand, with the rows that are drawn.
    order = target[np.lexsort(target.T[::-1])]
    assert {tuple(row) for row in kliep.centers_} == {tuple(row) for row in order}
    fold, total = np.arange(30) % 3, 0.0
    for k in range(3):
        learn, held = kliep.centers_[fold != k], kliep.centers_[fold == k]
        part = KLIEP(gamma=1.0, n_centers=30).fit(
            np.concatenate([X[:80], learn]), sample_domain=np.repeat([1, -1], [80, 20])
        )
        total += np.log(part.density_ratio(held)).sum()
    assert kliep.cv_scores_[1.0] == pytest.approx(total / 30, abs=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_scores_of_gammas_are_those_of_double_precision(shifted, scale):
    X, sample_domain = shifted[0] * scale, shifted[1]
    gammas = [gamma / scale**2 for gamma in (0.01, 1.0, 100.0)]
    kliep = KLIEP(gamma=gammas, cv=3, random_state=0).fit(X, sample_domain=sample_domain)
    source, target = (X[sample_domain * sign > 0] for sign in (1, -1))
    target = target[canonical_order(target)]
    target = target[np.random.RandomState(0).permutation(len(target))]
    fold = np.arange(len(target)) % 3
    for gamma in gammas:
        total = 0.0
        for k in range(3):
            centres = target[fold != k]
            A, b = (rbf_kernel(rows, centres, gamma=gamma) for rows in (target, source))
            P = A / b.mean(axis=0)
            p, _ = mixture_proportions(P[fold != k])
            total += np.log(P[fold == k] @ p).sum()
        assert kliep.cv_scores_[gamma] == pytest.approx(total / len(target), abs=0.02)


def test_centres_are_target_rows_and_a_seed_draws_the_same_for_any_order(shifted):
    X, sample_domain = shifted
    order = np.random.RandomState(1).permutation(len(X))
    kliep = KLIEP(gamma=1.0, n_centers=7, random_state=3)
    centers = kliep.fit(X, sample_domain=sample_domain).centers_
    assert {tuple(row) for row in centers} < {tuple(row) for row in X[sample_domain < 0]}
    np.testing.assert_array_equal(
        kliep.fit(X[order], sample_domain=sample_domain[order]).centers_, centers
    )
    kliep.set_params(random_state=4)
    assert not np.array_equal(kliep.fit(X, sample_domain=sample_domain).centers_, centers)


def test_a_kernel_too_narrow_for_any_source_row_is_an_error(shifted):
    with pytest.raises(ValueError, match="no source row that is like the target"):
        KLIEP(gamma=1e9).fit(shifted[0], sample_domain=shifted[1])


@pytest.mark.filterwarnings("ignore:KLIEP was fitted without sample_domain")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": "scale"}, "gamma must be 'auto', a number above 0 or several"),
        ({"gamma": []}, "gamma must be 'auto'"),
        ({"gamma": [1.0, -1.0]}, "gamma must be 'auto'"),
        ({"gamma": None}, "gamma must be 'auto'"),
        ({"n_centers": 0}, "n_centers"),
        ({"cv": 1}, "cv"),
    ],
)
def test_a_wrong_parameter_is_an_error_that_names_it(options, message):
    with pytest.raises(ValueError, match=message):
        KLIEP(**options).fit([[0.0], [1.0]])
