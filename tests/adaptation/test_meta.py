"""AdaptedClassifier and AdaptedRegressor: what they hand to whom."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import estimator_checks as checks

from sktransfer import PretrainedCNNFeatures
from sktransfer.adaptation import (
    CORAL,
    KLIEP,
    AdaptedClassifier,
    AdaptedRegressor,
    CanonicalCorrelationMap,
    ClassifierDensityRatio,
    LabelPropagationClassifier,
    NearestNeighborWeights,
    OptimalTransportMap,
)
from sktransfer.adaptation.stacking import stack_heterogeneous
from sktransfer.exceptions import DomainWarning
from sktransfer.metrics import ImportanceWeightedScorer, PredictionEntropyScorer
from sktransfer.model_selection import TargetKFold
from tests.adaptation.test_contract import DOMAIN, IS_SOURCE, X, Y

HEADS = {"classifier": AdaptedClassifier(), "regressor": AdaptedRegressor()}
# Methods see all rows alike, whatever their weight in the estimator; so a row of weight 2 and a
# row twice are the same only for those that make nothing of a single domain.
METHODS = {
    "coral": CORAL(),
    "weights": ClassifierDensityRatio(),
    "source-only": "source-only",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.DomainWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", METHODS)
def test_check_estimator_passes_and_skips_nothing(head, method):
    estimator = clone(HEADS[head]).set_params(method=METHODS[method])
    results = checks.check_estimator(estimator, on_skip=None, on_fail=None)
    other = [(r["check_name"], r["status"], repr(r["exception"])[-300:]) for r in results]
    assert [entry for entry in other if entry[1] != "passed"] == []
    assert len(results) >= 40


def test_a_map_is_applied_to_source_rows_in_fit_and_to_target_rows_in_predict():
    fitted = AdaptedClassifier(method=CORAL(reg=0)).fit(X, Y, sample_domain=DOMAIN)
    mapped = CORAL(reg=0).fit_transform(X, sample_domain=DOMAIN)
    by_hand = LogisticRegression(max_iter=1000).fit(mapped[IS_SOURCE], Y[IS_SOURCE])
    assert_allclose(fitted.predict_proba(X), by_hand.predict_proba(X))
    assert_allclose(
        fitted.decision_function(X, sample_domain=DOMAIN), by_hand.decision_function(mapped)
    )
    assert_allclose(np.log(fitted.predict_proba(X)), fitted.predict_log_proba(X))


def test_weights_reach_the_estimator():
    fitted = AdaptedClassifier(method=KLIEP(gamma=0.5)).fit(X, Y, sample_domain=DOMAIN)
    weights = KLIEP(gamma=0.5).fit(X, sample_domain=DOMAIN).sample_weight_
    by_hand = LogisticRegression(max_iter=1000)
    by_hand.fit(X[IS_SOURCE], Y[IS_SOURCE], sample_weight=weights[IS_SOURCE])
    assert_allclose(fitted.predict_proba(X), by_hand.predict_proba(X))
    doubled = clone(fitted).fit(X, Y, sample_domain=DOMAIN, sample_weight=np.full(len(X), 2.0))
    by_hand.fit(X[IS_SOURCE], Y[IS_SOURCE], sample_weight=2 * weights[IS_SOURCE])
    assert_allclose(doubled.predict_proba(X), by_hand.predict_proba(X))


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), SVC()),
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
        GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.1, 1.0]}, cv=2),
    ],
)
@pytest.mark.parametrize("routing", [True, False])
def test_weights_reach_the_last_step_of_pipelines_and_what_searches_fit(estimator, routing):
    weights = KLIEP(gamma=0.5).fit(X, sample_domain=DOMAIN).sample_weight_[IS_SOURCE]
    key = "svc__sample_weight" if "svc" in str(estimator.get_params()) else "sample_weight"
    by_hand = clone(estimator).fit(X[IS_SOURCE], Y[IS_SOURCE], **{key: weights})
    with sklearn.config_context(enable_metadata_routing=routing):
        fitted = AdaptedClassifier(estimator, KLIEP(gamma=0.5)).fit(X, Y, sample_domain=DOMAIN)
    assert_allclose(fitted.decision_function(X), by_hand.decision_function(X), atol=2e-3)


@pytest.mark.parametrize(
    "estimator",
    [
        KNeighborsClassifier(),
        make_pipeline(StandardScaler(), KNeighborsClassifier()),
        GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3]}),
        OneVsRestClassifier(LogisticRegression()),  # takes them by routing alone
    ],
)
def test_an_estimator_that_would_ignore_weights_is_refused(estimator):
    adapted = AdaptedClassifier(estimator, KLIEP())
    with pytest.raises(ValueError, match=r"takes no sample_weight.*KLIEP\(\).*such as CORAL\(\)"):
        adapted.fit(X, Y, sample_domain=DOMAIN)
    adapted.set_params(method="source-only")
    with pytest.raises(ValueError, match="takes no sample_weight"):
        adapted.fit(X, Y, sample_domain=DOMAIN, sample_weight=np.ones(len(X)))
    adapted.set_params(method=CORAL()).fit(X, Y, sample_domain=DOMAIN)


def test_target_rows_with_a_label_are_learned_from():
    some = np.zeros(len(X), dtype=bool)
    some[np.flatnonzero(~IS_SOURCE)[:10]] = True
    y = np.where(some, 3, Y)  # a class of the target's own
    fitted = AdaptedClassifier(method=NearestNeighborWeights())
    fitted.fit(X, y, sample_domain=DOMAIN, target_labeled=some)
    assert_array_equal(fitted.classes_, [0, 1, 2, 3])
    weights = NearestNeighborWeights().fit(X, sample_domain=DOMAIN).sample_weight_
    rows = IS_SOURCE | some
    by_hand = LogisticRegression(max_iter=1000)
    by_hand.fit(X[rows], y[rows], sample_weight=np.where(some, 1, weights)[rows])
    assert_allclose(fitted.predict_proba(X), by_hand.predict_proba(X))
    with pytest.raises(ValueError, match="target_labeled must hold 110 booleans"):
        fitted.fit(X, y, sample_domain=DOMAIN, target_labeled=some.astype(int))


def test_source_only_is_the_estimator_on_the_source():
    fitted = AdaptedClassifier(method="source-only").fit(X, Y, sample_domain=DOMAIN)
    by_hand = LogisticRegression(max_iter=1000).fit(X[IS_SOURCE], Y[IS_SOURCE])
    assert_allclose(fitted.predict_proba(X), by_hand.predict_proba(X))
    assert fitted.method_ is None


@pytest.mark.parametrize("method", ["coral", CORAL, StandardScaler(), LabelPropagationClassifier()])
def test_what_is_no_method_is_refused(method):
    with pytest.raises(ValueError, match="method must be a method of sktransfer.adaptation"):
        AdaptedClassifier(method=method).fit(X, Y, sample_domain=DOMAIN)


def test_labels_of_several_types_are_refused_and_not_made_text():
    mixed = np.array([1, "one"], dtype=object)[Y % 2]
    with pytest.raises(ValueError, match="y must hold labels of one type, got int and str"):
        AdaptedClassifier().fit(X, mixed, sample_domain=DOMAIN)


@pytest.mark.parametrize("method", [CORAL(), KLIEP(gamma=0.5), "source-only"])
@pytest.mark.parametrize("wrong", [np.zeros(len(X)), ["target"] * len(X), DOMAIN[1:]])
def test_unsound_domains_are_refused_in_predict_by_every_method(method, wrong):
    fitted = AdaptedClassifier(method=method).fit(X, Y, sample_domain=DOMAIN)
    with pytest.raises(ValueError, match=f"sample_domain must hold {len(X)} numbers"):
        fitted.predict(X, sample_domain=wrong)


def test_an_estimator_of_the_other_kind_is_refused():
    with pytest.raises(ValueError, match="estimator must be a classifier"):
        AdaptedClassifier(Ridge()).fit(X, Y, sample_domain=DOMAIN)
    with pytest.raises(ValueError, match="estimator must be a regressor"):
        AdaptedRegressor(SVC()).fit(X, Y, sample_domain=DOMAIN)


def test_methods_that_the_estimator_lacks_are_lacking():
    assert not hasattr(AdaptedClassifier(SVC()), "predict_proba")
    assert hasattr(AdaptedClassifier(SVC()), "decision_function")
    assert not hasattr(AdaptedClassifier(KNeighborsClassifier()), "decision_function")


def test_without_domains_a_warning_says_that_nothing_is_adapted():
    with pytest.warns(DomainWarning, match="CORAL was fitted without sample_domain"):
        AdaptedClassifier().fit(X, Y)


GRID = [
    {"method": ["source-only", OptimalTransportMap(method="linear")]},
    {"method": [CORAL()], "method__reg": [0.1, 1.0]},
]


def test_a_search_runs_over_methods_and_their_parameters_without_routing():
    search = GridSearchCV(AdaptedClassifier(), GRID, cv=TargetKFold(3))
    search.fit(X, Y, groups=DOMAIN, sample_domain=DOMAIN)
    assert len(search.cv_results_["params"]) == 4
    for train, test in TargetKFold(3).split(X, Y, groups=DOMAIN):
        assert (DOMAIN[test] < 0).all()
        assert IS_SOURCE[train].sum() == IS_SOURCE.sum()
    expected = [
        np.mean(
            [
                AdaptedClassifier(method=CORAL(reg=0.1))
                .fit(X[train], Y[train], sample_domain=DOMAIN[train])
                .score(X[test], Y[test])
                for train, test in TargetKFold(3).split(X, Y, groups=DOMAIN)
            ]
        )
    ]
    assert_allclose(search.cv_results_["mean_test_score"][2], expected[0])


@pytest.mark.parametrize(
    "scoring", [None, ImportanceWeightedScorer(), PredictionEntropyScorer()], ids=str
)
def test_a_search_runs_with_routing_and_scorers_that_need_no_target_labels(scoring):
    wrong = np.where(IS_SOURCE, Y, 0)
    y = Y if scoring is None else wrong
    cv = TargetKFold(3) if scoring is None else 3
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(AdaptedClassifier(), GRID, cv=cv, scoring=scoring)
        search.fit(X, y, sample_domain=DOMAIN)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        scores = cross_val_score(
            AdaptedClassifier(), X, y, cv=cv, scoring=scoring, params={"sample_domain": DOMAIN}
        )
    assert np.isfinite(scores).all()


@pytest.mark.slow
@pytest.mark.parametrize("routing", [True, False])
def test_it_stands_in_a_pipeline_behind_deep_features(routing):
    digits = load_digits()
    images, labels = digits.images[:160] / 16, digits.target[:160]
    domain = np.where(np.arange(160) < 90, 1, -1)
    images = np.where(domain[:, None, None] > 0, images, 1 - images * 0.6)
    pipeline = Pipeline(
        [
            ("features", PretrainedCNNFeatures(image_size=32, layer="blocks.2")),
            ("pca", PCA(20)),
            ("adapted", AdaptedClassifier()),
        ]
    )
    with sklearn.config_context(enable_metadata_routing=routing):
        if routing:
            pipeline.fit(images, labels, sample_domain=domain)
        else:
            pipeline.fit(images, labels, adapted__sample_domain=domain)
    pipeline.score(images[90:], labels[90:])
    assert pipeline["adapted"].method_.n_features_in_ == 20
    by_hand = AdaptedClassifier().fit(
        pipeline[:-1].transform(images), labels, sample_domain=domain
    )  # fmt: skip
    found = by_hand.predict(pipeline[:-1].transform(images))
    assert np.mean(found == pipeline.predict(images)) > 0.97  # batches round differently


def test_domains_with_other_features_are_adapted_too():
    rng = np.random.RandomState(0)
    hidden = rng.normal(size=(120, 2)) + 3 * (np.arange(120) % 2)[:, None]
    labels = np.arange(120) % 2
    source = hidden @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(120, 5))
    target = hidden @ rng.normal(size=(2, 3)) + 0.1 * rng.normal(size=(120, 3))
    pairs = np.column_stack([np.arange(20), np.arange(20)])
    wide, y, domain = stack_heterogeneous(source[:70], target, labels[:70], pairs=pairs)
    fitted = AdaptedClassifier(method=CanonicalCorrelationMap(n_source_features=5))
    fitted.fit(wide, y, sample_domain=domain)
    rows, _, _ = stack_heterogeneous(source[:0], target[70:])
    assert fitted.score(rows, labels[70:]) > 0.9
