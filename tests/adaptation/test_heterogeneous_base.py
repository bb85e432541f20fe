"""Two domains with other features each in one table."""

import numpy as np
import pytest

from sktransfer.adaptation.heterogeneous import CanonicalCorrelationMap, LinearGromovWasserstein
from sktransfer.adaptation.stacking import stack_heterogeneous


@pytest.fixture
def rows():
    random = np.random.RandomState(0)
    return random.randn(12, 2), random.randn(9, 3)


def test_rows_lie_in_the_columns_of_their_domain(rows):
    source, target = rows
    X, y, sample_domain = stack_heterogeneous(source, target, np.arange(12), pairs=[[3, 8]])
    np.testing.assert_array_equal(X[:12, :2], source)
    np.testing.assert_array_equal(X[12:, 2:], target)
    np.testing.assert_array_equal(X[3, 2:], target[8])
    assert np.isnan(X).sum() == 11 * 3 + 9 * 2
    assert sample_domain.tolist() == [1] * 12 + [-1] * 9
    assert y[12:].tolist() == [-1] * 9


def test_a_target_alone_is_laid_out_for_prediction(rows):
    source, target = rows
    X, _, sample_domain = stack_heterogeneous(source, target)
    fitted = LinearGromovWasserstein(n_source_features=2).fit(X, sample_domain=sample_domain)
    alone, _, _ = stack_heterogeneous(source[:0], target)
    np.testing.assert_array_equal(fitted.transform(alone), target)


def test_float32_stays_float32(rows):
    source, target = (each.astype(np.float32) for each in rows)
    X, _, sample_domain = stack_heterogeneous(source, target)
    assert X.dtype == np.float32
    fitted = LinearGromovWasserstein(n_source_features=2)
    assert fitted.fit_transform(X, sample_domain=sample_domain).dtype == np.float32


@pytest.mark.parametrize("pairs", [[[0, 9]], [[-1, 0]], [[12, 0]], [0, 1], [[0.0, 1.0]]])
def test_pairs_that_are_no_row_numbers_are_refused(pairs, rows):
    with pytest.raises(ValueError, match="pairs must hold two row numbers each"):
        stack_heterogeneous(*rows, pairs=pairs)


def test_a_source_row_with_two_counterparts_is_refused(rows):
    with pytest.raises(ValueError, match="pairs must name each row of X_source at most once"):
        stack_heterogeneous(*rows, pairs=[[0, 1], [0, 2]])


def test_missing_values_are_refused_before_they_look_like_missing_domains(rows):
    source, target = rows
    source[1, 1] = np.nan
    with pytest.raises(ValueError, match="X_source must be a table of finite numbers"):
        stack_heterogeneous(source, target)


@pytest.mark.parametrize("method", [CanonicalCorrelationMap, LinearGromovWasserstein])
def test_a_row_that_lacks_features_of_its_domain_is_refused(method, rows):
    X, _, sample_domain = stack_heterogeneous(*rows, pairs=[[0, 0], [1, 1], [2, 2]])
    fitted = method(n_source_features=2).fit(X, sample_domain=sample_domain)
    lost, holed = X.copy(), X.copy()
    lost[5], holed[12, 3] = np.nan, np.nan
    with pytest.raises(ValueError, match="contains NaN in row 5, a row of the source"):
        fitted.transform(lost, sample_domain=sample_domain)
    with pytest.raises(ValueError, match="in row 12 in column 1"):
        fitted.fit(holed, sample_domain=sample_domain)
    with pytest.raises(ValueError, match="row 3, a row of the target"):
        fitted.transform(X)


def test_what_a_row_is_can_be_seen_from_the_features_it_has(rows):
    X, _, sample_domain = stack_heterogeneous(*rows)
    told = LinearGromovWasserstein(n_source_features=2).fit(X, sample_domain=sample_domain)
    with pytest.warns(UserWarning, match="without sample_domain"):
        seen = LinearGromovWasserstein(n_source_features=2).fit(X)
    np.testing.assert_array_equal(seen.coef_, told.coef_)
