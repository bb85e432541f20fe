"""Access to the estimators inside composite ones."""

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from sktransfer._composites import components, find_all, is_search, model_of, unwrapped

X = np.random.default_rng(0).normal(size=(40, 3))
y = np.arange(40) % 2


def search():
    return GridSearchCV(make_pipeline(PCA(2), LogisticRegression()), {"pca__whiten": [True]}, cv=2)


def test_a_search_is_told_from_other_meta_estimators():
    assert is_search(search())
    assert not is_search(SelfTrainingClassifier(LogisticRegression()))
    assert not is_search(make_pipeline(PCA()))


def test_the_model_of_a_search_is_its_best_estimator_or_before_fit_the_given_one():
    unfitted = search()
    assert model_of(unfitted) is unfitted.estimator
    fitted = search().fit(X, y)
    assert model_of(fitted) is fitted.best_estimator_
    pca = PCA()
    assert model_of(pca) is pca


def test_unwrapping_goes_through_frozen_estimators_and_fitted_searches():
    fitted = search().fit(X, y)
    assert unwrapped(FrozenEstimator(fitted)) is fitted.best_estimator_
    unfitted = search()
    assert unwrapped(unfitted) is unfitted


@pytest.mark.parametrize(
    "composite",
    [
        lambda parts: Pipeline([(str(i), part) for i, part in enumerate(parts)]),
        lambda parts: FeatureUnion([(str(i), part) for i, part in enumerate(parts)]),
        lambda parts: ColumnTransformer([(str(i), part, [i]) for i, part in enumerate(parts)]),
    ],
    ids=["Pipeline", "FeatureUnion", "ColumnTransformer"],
)
def test_components_are_the_estimators_given_without_keywords(composite):
    pca, scaler = PCA(1), StandardScaler()
    assert components(composite([pca, "passthrough", scaler])) == [pca, scaler]


def test_components_of_a_fitted_column_transformer_are_fitted():
    both = ColumnTransformer([("pca", PCA(1), [0, 1])], remainder="drop").fit(X)
    (pca,) = components(both)
    assert hasattr(pca, "components_")


def test_components_of_a_search_and_of_a_meta_estimator():
    unfitted = search()
    assert components(unfitted) == [unfitted.estimator]
    meta = SelfTrainingClassifier(LogisticRegression())
    assert components(meta) == []
    assert components(meta.fit(X, np.append(y[:-1], -1))) == [meta.estimator_]
    assert components(PCA()) == []


def test_the_unfitted_template_of_an_ensemble_is_no_component():
    assert components(BaggingClassifier(LogisticRegression(), 2).fit(X, y)) == []


def test_estimators_are_found_at_any_depth_in_order_and_the_outermost_only():
    inner, first, frozen = PCA(1), PCA(2), PCA(3).fit(X)
    nested = make_pipeline(
        FeatureUnion([("a", first), ("b", make_pipeline(StandardScaler(), inner))]),
        FrozenEstimator(make_pipeline(frozen)),
        LogisticRegression(),
    )
    assert [*find_all(nested, lambda each: isinstance(each, PCA))] == [first, inner, frozen]
    assert [*find_all(nested, lambda each: isinstance(each, Pipeline))] == [nested]
