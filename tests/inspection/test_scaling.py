"""Scalers that divide features by next to nothing are found and named."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from sktransfer.inspection import diagnose_scaling

N = 100


def table(seed, rare=0.0, rounding=0.0):
    """Six columns; the third is active in one row, and the fifth is rounding around 7."""
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(N, 6)) * [1, 2, 0, 1, 0, 3] + [0, 5, 0, 1, 7, 0]
    X[0, 2] = rare
    X[:, 4] += rounding * rng.normal(size=N)
    return X.astype(np.float32)


def fitted(X, *steps):
    return make_pipeline(*(steps or (StandardScaler(),)), Ridge()).fit(X, X[:, 0])


def test_a_column_that_is_active_in_a_single_row_is_found_by_rows_that_are_active():
    train, test = table(0, rare=1e-4), table(1, rare=1.0)
    pipeline = fitted(train)
    found = diagnose_scaling(pipeline, test)
    assert found.step == "standardscaler"
    assert_array_equal(found.columns, [2])
    assert not len(found.rounding)
    scaled = pipeline[0].transform(test)
    assert_allclose(found.largest, np.abs(scaled).max())
    assert_allclose(found.limit, np.sqrt(N - 1))
    assert "standardscaler divides 1 column by next to nothing" in str(found)
    assert f"{found.largest:.0f}" in str(found)
    assert "RidgeCV" in str(found)


def test_no_training_row_of_any_data_exceeds_the_limit():
    for rare in (1e-9, 1.0, 1e9):
        X = table(0, rare=rare).astype(np.float64)
        assert diagnose_scaling(fitted(X), X).step is None
        assert np.abs(StandardScaler().fit_transform(X)).max() <= np.sqrt(N - 1) + 1e-9


@pytest.mark.parametrize(
    "scaler", [StandardScaler(), RobustScaler(), MinMaxScaler(), StandardScaler(with_mean=False)]
)
def test_a_column_whose_scale_is_rounding_is_found_in_any_rows(scaler):
    train = table(0, rounding=3e-7)
    found = diagnose_scaling(fitted(train, scaler), train)
    assert_array_equal(found.columns, [4])
    assert_array_equal(found.rounding, [4])
    assert "1 by rounding alone" in str(found)


@pytest.mark.parametrize("scaler", [MaxAbsScaler(), MinMaxScaler(), RobustScaler()])
def test_other_scalers_are_bounded_by_a_hundred(scaler):
    found = diagnose_scaling(fitted(table(0, rare=1e-4), scaler), table(1, rare=1.0))
    by_quartiles = isinstance(scaler, RobustScaler)  # which sees a constant column there
    assert found.step is None if by_quartiles else found.columns.tolist() == [2]
    assert found.limit is None


def test_columns_that_never_vary_and_outliers_of_wide_columns_are_no_finding():
    train, test = table(0), table(1)
    test[3, 1] = 1e6
    assert diagnose_scaling(fitted(train), test).step is None
    assert str(diagnose_scaling(fitted(train), test)) == (
        "no column is divided by next to nothing; nothing to do"
    )


def test_the_step_is_found_behind_others_within_pipelines_and_searches():
    train, test = table(0, rare=1e-4), table(1, rare=1.0)
    nested = make_pipeline(make_pipeline(PCA(6), StandardScaler()), Ridge())
    search = GridSearchCV(nested, {"ridge__alpha": [1.0]}, cv=2).fit(train, train[:, 0])
    found = diagnose_scaling(search, test)
    assert found.step == "pipeline.standardscaler"
    scaled = search.best_estimator_[0].transform(test)
    assert_allclose(found.largest, np.abs(scaled).max())


def test_rows_that_could_not_be_read_are_passed_over():
    train, test = table(0, rare=1e-4), table(1, rare=1.0)
    test[5] = np.nan
    assert diagnose_scaling(fitted(train), test).columns.tolist() == [2]
    assert diagnose_scaling(fitted(train), test[5:6]).step is None


def test_what_is_no_fitted_pipeline_is_refused():
    with pytest.raises(TypeError, match="needs a fitted Pipeline"):
        diagnose_scaling(Ridge(), table(0))
    with pytest.raises(NotFittedError):
        diagnose_scaling(make_pipeline(StandardScaler(), Ridge()), table(0))
