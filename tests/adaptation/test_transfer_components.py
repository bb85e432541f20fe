"""Transfer component analysis against the generalised eigenproblem of the papers."""

import numpy as np
import pytest
from scipy.linalg import eigh, subspace_angles
from sklearn.metrics.pairwise import rbf_kernel

from sktransfer.adaptation.transfer_components import TransferComponentAnalysis


@pytest.fixture
def rows():
    random = np.random.RandomState(0)
    source = random.randn(70, 4) * [3, 1, 0.5, 0.1]
    target = random.randn(50, 4) * [3, 1, 0.5, 0.1] + [1, 0, 0.5, 0.2]
    return np.concatenate([source, target]), np.repeat([1, -1], [70, 50])


def reference(K, mu, n_components):
    """Components of 70 + 50 rows, by scipy's generalised eigensolver."""
    e = np.repeat([1 / 70, -1 / 50], [70, 50])
    H, L = np.eye(120) - 1 / 120, np.outer(e, e)
    values, W = eigh(K @ H @ K, np.eye(120) + mu * K @ L @ K)
    return values[::-1][:n_components], K @ W[:, ::-1][:, :n_components]


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("mu", [0.0, 0.1, 100.0])
def test_components_are_those_of_the_generalised_eigenproblem(kernel, mu, rows):
    X, sample_domain = rows
    K = rbf_kernel(X, gamma=0.3) if kernel == "rbf" else X @ X.T
    values, expected = reference(K, mu, 3)
    tca = TransferComponentAnalysis(3, kernel=kernel, gamma=0.3, mu=mu)
    Z = tca.fit_transform(X, sample_domain=sample_domain)
    assert np.rad2deg(subspace_angles(Z, expected)).max() < 1e-8
    np.testing.assert_allclose(np.abs(Z), np.abs(expected), atol=1e-8)
    np.testing.assert_allclose(tca.eigenvalues_, values, rtol=1e-8)


def test_new_rows_are_mapped_by_their_kernel_with_all_rows(rows):
    X, sample_domain = rows
    tca = TransferComponentAnalysis(2, gamma=0.3).fit(X, sample_domain=sample_domain)
    new = np.random.RandomState(1).randn(5, 4)
    expected = rbf_kernel(new, tca.landmarks_, gamma=0.3) @ tca.coef_
    np.testing.assert_allclose(tca.transform(new), expected, atol=1e-12)


def test_landmarks_that_are_all_rows_give_the_exact_components(rows, monkeypatch):
    X, sample_domain = rows
    exact = TransferComponentAnalysis(3, gamma=0.3).fit(X, sample_domain=sample_domain)
    # Each row twice: 120 landmarks of 240 rows may span all there is.
    twice = np.repeat(np.arange(120), 2)
    approximate = TransferComponentAnalysis(3, gamma=0.3, mu=0.5, n_landmarks=239, random_state=0)
    Z = approximate.fit_transform(X[twice], sample_domain=sample_domain[twice])
    # K of doubled rows has doubled eigenvalues, and so a mu that is half as large.
    expected = exact.set_params(mu=1.0).fit_transform(X, sample_domain=sample_domain)
    assert np.rad2deg(subspace_angles(Z[::2], expected)).max() < 0.1


def test_few_landmarks_come_close_to_the_exact_components():
    random = np.random.RandomState(0)
    X, sample_domain = random.randn(600, 2), np.repeat([1, -1], 300)
    X[300:] += 0.5
    exact = TransferComponentAnalysis(2, gamma=0.2).fit_transform(X, sample_domain=sample_domain)
    few = TransferComponentAnalysis(2, gamma=0.2, n_landmarks=60, random_state=0)
    Z = few.fit_transform(X, sample_domain=sample_domain)
    assert few.landmarks_.shape == (60, 2)
    assert np.rad2deg(subspace_angles(Z, exact)).max() < 1


def test_a_domain_smaller_than_half_the_landmarks_is_taken_whole():
    random = np.random.RandomState(0)
    X, sample_domain = random.randn(110, 2), np.repeat([1, -1], [100, 10])
    tca = TransferComponentAnalysis(2, n_landmarks=40, random_state=0)
    tca.fit(X, sample_domain=sample_domain)
    assert tca.landmarks_.shape == (40, 2)
    assert all((row == tca.landmarks_).all(axis=1).any() for row in X[100:])


def test_a_heavy_mu_makes_the_means_of_the_domains_equal(rows):
    X, sample_domain = rows
    for kernel in ("rbf", "linear"):
        tca = TransferComponentAnalysis(2, kernel=kernel, mu=1e9)
        Z = tca.fit_transform(X, sample_domain=sample_domain)
        gap = Z[sample_domain > 0].mean(axis=0) - Z[sample_domain < 0].mean(axis=0)
        assert np.abs(gap).max() < 1e-3 * Z.std()


def test_what_the_other_kernel_learned_is_forgotten(rows):
    X, sample_domain = rows
    tca = TransferComponentAnalysis(2).fit(X, sample_domain=sample_domain)
    tca.set_params(kernel="linear").fit(X, sample_domain=sample_domain)
    assert not hasattr(tca, "landmarks_")
    assert tca.coef_.shape == (4, 2)
