"""CORAL and subspace alignment against textbook algebra."""

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power, sqrtm
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from sktransfer.adaptation.alignment import CORAL, SubspaceAlignment


@pytest.fixture
def rows():
    random = np.random.RandomState(0)
    source = random.randn(80, 5) @ random.randn(5, 5) + [1, 2, 3, 4, 5]
    target = random.randn(60, 5) @ random.randn(5, 5) - 1
    return source, target, np.concatenate([source, target]), np.repeat([1, -1], [80, 60])


def test_coral_is_whitening_and_colouring_as_in_the_paper(rows):
    source, target, X, sample_domain = rows
    c_s, c_t = (np.cov(each, rowvar=False) + np.eye(5) for each in (source, target))
    expected = source @ fractional_matrix_power(c_s, -0.5) @ sqrtm(c_t)
    Z = CORAL(match_mean=False).fit_transform(X, sample_domain=sample_domain)
    np.testing.assert_allclose(Z[:80], expected, rtol=0, atol=2e-13)
    np.testing.assert_array_equal(Z[80:], target)


def test_coral_without_reg_gives_the_source_the_targets_covariance_and_mean(rows):
    _, target, X, sample_domain = rows
    Z = CORAL(reg=0.0).fit_transform(X, sample_domain=sample_domain)[:80]
    np.testing.assert_allclose(np.cov(Z.T), np.cov(target.T), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(Z.mean(axis=0), target.mean(axis=0), atol=1e-12)


def test_coral_does_not_depend_on_where_zero_is(rows):
    _, _, X, sample_domain = rows
    Z = CORAL().fit_transform(X, sample_domain=sample_domain)
    moved = CORAL().fit_transform(X + 100, sample_domain=sample_domain)
    np.testing.assert_allclose(moved, Z + 100, atol=1e-9)


def test_coral_of_standardised_domains_is_the_same_with_and_without_means(rows):
    source, target, _, sample_domain = rows
    X = np.concatenate([StandardScaler().fit_transform(each) for each in (source, target)])
    Z = CORAL().fit_transform(X, sample_domain=sample_domain)
    plain = CORAL(match_mean=False).fit_transform(X, sample_domain=sample_domain)
    np.testing.assert_allclose(plain, Z, atol=1e-12)


def test_coral_auto_shrinks_by_ledoit_and_wolf_in_any_units(rows):
    source, target, X, sample_domain = rows

    def shrunk(each):
        scale = each.std(axis=0)
        return ledoit_wolf((each - each.mean(axis=0)) / scale)[0] * np.outer(scale, scale)

    coral = CORAL("auto").fit(X, sample_domain=sample_domain)
    expected = fractional_matrix_power(shrunk(source), -0.5) @ sqrtm(shrunk(target))
    np.testing.assert_allclose(coral.coef_, expected, atol=1e-12)


def test_coral_without_reg_leaves_out_what_the_source_has_no_variance_in(rows):
    _, _, X, sample_domain = rows
    X[:80, 0] = X[:80, 1]
    Z = CORAL(reg=0).fit_transform(X, sample_domain=sample_domain)
    assert np.abs(Z[:80]).max() < 100


def test_subspace_alignment_is_the_pca_of_each_domain_and_the_product_of_axes(rows):
    source, target, X, sample_domain = rows
    pca_s, pca_t = PCA(3).fit(source), PCA(3).fit(target)
    aligned = pca_s.transform(source) @ pca_s.components_ @ pca_t.components_.T
    own = pca_t.transform(target)
    Z = SubspaceAlignment(3).fit_transform(X, sample_domain=sample_domain)
    # The sign of an axis of the target is free; that of the source's cancels out.
    signs = np.sign((own * Z[80:]).sum(axis=0))
    np.testing.assert_allclose(Z[80:], own * signs, atol=1e-12)
    np.testing.assert_allclose(Z[:80], aligned * signs, atol=1e-12)


def test_subspace_alignment_keeps_the_share_of_variance_in_both_domains(rows):
    source, target, X, sample_domain = rows
    alignment = SubspaceAlignment(0.8).fit(X, sample_domain=sample_domain)
    kept = [
        PCA().fit(each).explained_variance_ratio_[: alignment.n_components_].sum()
        for each in (source, target)
    ]
    one_less = [
        PCA().fit(each).explained_variance_ratio_[: alignment.n_components_ - 1].sum()
        for each in (source, target)
    ]
    assert min(kept) >= 0.8 > min(one_less)


def test_subspace_alignment_with_all_axes_only_centres(rows):
    source, _, X, sample_domain = rows
    alignment = SubspaceAlignment(None).fit(X, sample_domain=sample_domain)
    Z = alignment.transform(X, sample_domain=sample_domain)
    back = Z[:80] @ alignment.target_components_
    np.testing.assert_allclose(back, source - source.mean(axis=0), atol=1e-12)


def test_subspace_alignment_takes_more_features_than_rows():
    random = np.random.RandomState(0)
    X, sample_domain = random.randn(24, 100), np.repeat([1, -1], 12)
    alignment = SubspaceAlignment(4).fit(X, sample_domain=sample_domain)
    expected = PCA(4, svd_solver="full").fit(X[:12]).components_
    np.testing.assert_allclose(np.abs(alignment.source_components_), np.abs(expected), atol=1e-12)
