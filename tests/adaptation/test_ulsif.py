"""uLSIF beside its definition, with every row left out in turn."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from sktransfer.adaptation.ulsif import ULSIF, leave_one_out_errors


@pytest.fixture
def shifted():
    random = np.random.RandomState(0)
    X = np.concatenate([random.randn(60, 2), random.randn(25, 2) * 0.6 + 0.7])
    return X, np.repeat([1, -1], [60, 25])


def coefficients(K_source, K_target, penalty):
    H = K_source.T @ K_source / len(K_source)
    alpha = np.linalg.solve(H + penalty * np.eye(len(H)), K_target.mean(axis=0))
    return np.maximum(alpha, 0)


def test_coefficients_are_those_of_the_closed_form(shifted):
    X, sample_domain = shifted
    ulsif = ULSIF(gamma=0.8, regularization=0.05).fit(X, sample_domain=sample_domain)
    K_source = rbf_kernel(X[:60], ulsif.centers_, gamma=0.8)
    alpha = coefficients(K_source, rbf_kernel(X[60:], ulsif.centers_, gamma=0.8), 0.05)
    np.testing.assert_allclose(ulsif.dual_coef_, alpha, atol=1e-12)
    ratio = K_source @ alpha
    np.testing.assert_allclose(ulsif.density_ratio(X[:60]), ratio, atol=1e-12)
    np.testing.assert_allclose(ulsif.sample_weight_[:60], ratio / ratio.mean(), atol=1e-12)
    assert ulsif.cv_errors_ is None


@pytest.mark.parametrize(("n_source", "n_target"), [(12, 9), (9, 12)])
def test_leave_one_out_errors_are_those_of_leaving_rows_out(n_source, n_target):
    random = np.random.RandomState(0)
    K_source, K_target = random.rand(n_source, 5), random.rand(n_target, 5)
    penalties = np.array([0.01, 0.3, 2.0])
    expected = []
    for penalty in penalties:
        parts = []
        for i in range(min(n_source, n_target)):
            alpha = coefficients(
                np.delete(K_source, i, axis=0), np.delete(K_target, i, axis=0), penalty
            )
            parts.append((K_source[i] @ alpha) ** 2 / 2 - K_target[i] @ alpha)
        expected.append(np.mean(parts))
    np.testing.assert_allclose(
        leave_one_out_errors(K_source, K_target, penalties), expected, atol=1e-12
    )


def test_the_pair_with_the_least_error_is_taken(shifted):
    X, sample_domain = shifted
    ulsif = ULSIF(gamma=[0.01, 1.0], regularization=[0.1, 10.0], random_state=0)
    ulsif.fit(X, sample_domain=sample_domain)
    best = min(ulsif.cv_errors_, key=ulsif.cv_errors_.get)
    assert len(ulsif.cv_errors_) == 4
    assert (ulsif.gamma_, ulsif.regularization_) == best


def test_the_ratio_of_two_gaussians_is_found():
    random = np.random.RandomState(0)
    X = np.concatenate([random.randn(1000, 1), random.randn(1000, 1) * 0.5 + 0.5])
    ulsif = ULSIF(random_state=0).fit(X, sample_domain=np.repeat([1, -1], 1000))
    grid = np.linspace(-1, 1.5, 26)[:, None]
    truth = 2 * np.exp(-2 * (grid - 0.5) ** 2 + grid**2 / 2)[:, 0]
    assert np.abs(ulsif.density_ratio(grid) - truth).mean() < 0.2 * truth.mean()


def test_one_row_of_a_domain_is_enough():
    ulsif = ULSIF().fit([[0.0], [1.0], [2.0]], sample_domain=[1, 1, -1])
    assert np.isfinite(ulsif.sample_weight_).all()


@pytest.mark.filterwarnings("ignore:ULSIF was fitted without sample_domain")
@pytest.mark.parametrize("name", ["gamma", "regularization"])
@pytest.mark.parametrize("value", ["best", 0, [1.0, np.inf]])
def test_a_wrong_parameter_is_an_error_that_names_it(name, value):
    with pytest.raises(ValueError, match=f"{name} must be 'auto'"):
        ULSIF(**{name: value}).fit([[0.0], [1.0]])
