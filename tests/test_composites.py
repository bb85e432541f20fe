"""Access to the estimators inside composite ones."""

import inspect

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RANSACRegressor
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import all_estimators

from sktransfer._composites import (
    components,
    find_all,
    is_fitted,
    is_search,
    model_of,
    unwrapped,
)

X = np.random.default_rng(0).normal(size=(40, 3))
y = np.arange(40) % 2


def search():
    return GridSearchCV(make_pipeline(PCA(2), LogisticRegression()), {"pca__whiten": [True]}, cv=2)


def test_a_search_is_told_from_other_meta_estimators():
    assert is_search(search())
    assert not is_search(SelfTrainingClassifier(LogisticRegression()))
    assert not is_search(make_pipeline(PCA()))
    tuned = TunedThresholdClassifierCV(LogisticRegression(), cv=2)
    assert not is_search(tuned)
    assert not is_search(tuned.fit(X, y))
    assert is_search(RandomizedSearchCV(PCA(), {}))


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
    assert components(meta) == [meta.estimator]
    assert components(meta.fit(X, np.append(y[:-1], -1))) == [meta.estimator_]
    assert components(PCA()) == []


def test_the_members_of_an_ensemble_are_its_components_and_not_its_unfitted_template():
    ensemble = BaggingClassifier(LogisticRegression(), 2).fit(X, y)
    assert components(ensemble) == ensemble.estimators_


def part(number):
    """Told apart from all other parts by its seed."""
    return LogisticRegression(random_state=number)


def tree(number):
    return DecisionTreeRegressor(random_state=number)


META = [
    AdaBoostClassifier(part(1), n_estimators=2),
    AdaBoostRegressor(tree(1), n_estimators=2),
    BaggingClassifier(part(1), 2),
    BaggingRegressor(tree(1), 2),
    CalibratedClassifierCV(part(1), cv=2),
    CalibratedClassifierCV(part(1), cv=2, ensemble=False),
    ClassifierChain(part(1)),
    ColumnTransformer([("one", PCA(1, random_state=1), [0, 1])]),
    FeatureUnion([("one", PCA(1, random_state=1))]),
    FixedThresholdClassifier(part(1)),
    FrozenEstimator(part(1).fit(X, y)),
    GridSearchCV(part(1), {"C": [1.0]}, cv=2),
    GridSearchCV(part(1), {"C": [1.0]}, cv=2, refit=False),
    MultiOutputClassifier(part(1)),
    MultiOutputRegressor(tree(1)),
    OneVsOneClassifier(part(1)),
    OneVsRestClassifier(part(1)),
    OutputCodeClassifier(part(1), random_state=0),
    make_pipeline(StandardScaler(), part(1)),
    RandomizedSearchCV(part(1), {"C": [1.0]}, cv=2, n_iter=1),
    RANSACRegressor(tree(1), min_samples=5, random_state=0),
    RegressorChain(tree(1)),
    RFE(part(1)),
    RFECV(part(1), cv=2),
    SelectFromModel(part(1)),
    SelfTrainingClassifier(part(1)),
    SequentialFeatureSelector(part(1), n_features_to_select=1, cv=2),
    StackingClassifier([("one", part(1))], final_estimator=part(2), cv=2),
    StackingRegressor([("one", tree(1))], final_estimator=tree(2), cv=2),
    TransformedTargetRegressor(tree(1)),
    TunedThresholdClassifierCV(part(1), cv=2),
    VotingClassifier([("one", part(1))]),
    VotingRegressor([("one", tree(1))]),
]


# Their members have seeds of their own.
RESEEDING = (
    *(AdaBoostClassifier, AdaBoostRegressor, BaggingClassifier, BaggingRegressor),
    RANSACRegressor,
)


def test_every_meta_estimator_of_scikit_learn_is_among_those_that_are_tried():
    holders = {"estimator", "estimators", "regressor", "transformers", "transformer_list", "steps"}
    known = {
        name
        for name, kind in all_estimators()
        if holders & set(inspect.signature(kind).parameters) and "Halving" not in name
    }
    assert {type(each).__name__ for each in META} == known


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fitted", [True, False], ids=["fitted", "given"])
@pytest.mark.parametrize("meta", META, ids=lambda meta: type(meta).__name__)
def test_what_is_inside_a_meta_estimator_is_found(meta, fitted):
    def is_wanted(each):
        return getattr(each, "random_state", None) == 1 and not components(each)

    target = np.column_stack([y, 1 - y]) if "Output" in type(meta).__name__ else y
    target = y if isinstance(meta, OutputCodeClassifier) else target
    target = np.column_stack([y, 1 - y]) if "Chain" in type(meta).__name__ else target
    if isinstance(meta, SelfTrainingClassifier):
        target = np.append(y[:-1], -1)
    if not fitted:
        assert [*find_all(meta, lambda each: getattr(each, "random_state", 0) == 1)]
        return
    meta = clone(meta).fit(X, target)
    found = components(meta) if isinstance(meta, RESEEDING) else [*find_all(meta, is_wanted)]
    assert found
    keeps_none = isinstance(meta, SequentialFeatureSelector) or getattr(meta, "refit", 1) is False
    assert all(map(is_fitted, found)) != keeps_none


def test_estimators_are_found_at_any_depth_in_order_and_the_outermost_only():
    inner, first, frozen = PCA(1), PCA(2), PCA(3).fit(X)
    nested = make_pipeline(
        FeatureUnion([("a", first), ("b", make_pipeline(StandardScaler(), inner))]),
        FrozenEstimator(make_pipeline(frozen)),
        LogisticRegression(),
    )
    assert [*find_all(nested, lambda each: isinstance(each, PCA))] == [first, inner, frozen]
    assert [*find_all(nested, lambda each: isinstance(each, Pipeline))] == [nested]
