"""Scorers that look at no target label, by hand and in scikit-learn's searches."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose
from scipy.stats import entropy
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_blobs
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, log_loss, mean_squared_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from sktransfer.adaptation import CORAL, AdaptedClassifier
from sktransfer.metrics import (
    CircularValidationScorer,
    DeepEmbeddedValidationScorer,
    ImportanceWeightedScorer,
    PredictionEntropyScorer,
)
from sktransfer.metrics._scoring import density_ratio
from sktransfer.metrics.scorers import controlled_mean
from sktransfer.model_selection import TargetKFold

RNG = np.random.RandomState(0)
X, Y = make_blobs(200, centers=[[-2, 0], [2, 0]], random_state=0)
DOMAIN = np.where(RNG.uniform(size=200) < 1 / (1 + np.exp(X[:, 1])), 1, -1)
SOURCE = DOMAIN > 0
HIDDEN = np.where(SOURCE, Y, -1)
MODEL = LogisticRegression().fit(X[SOURCE], Y[SOURCE])
SCORERS = {
    "importance weighted": ImportanceWeightedScorer(),
    "importance weighted, log": ImportanceWeightedScorer("log"),
    "entropy": PredictionEntropyScorer(),
    "deep embedded": DeepEmbeddedValidationScorer(random_state=0),
    "circular": CircularValidationScorer(),
}


class Shifted(ClassifierMixin, BaseEstimator):
    """Nearest means of the source, moved to where the target lies; it wants to know domains."""

    def __init__(self, strength=1.0):
        self.strength = strength

    def fit(self, X, y, *, sample_domain):
        X, y = np.asarray(X), np.asarray(y)
        source = np.asarray(sample_domain) > 0
        self.shift_ = self.strength * (X[~source].mean(0) - X[source].mean(0))
        self.model_ = GaussianNB().fit(X[source], y[source])
        self.classes_ = self.model_.classes_
        self.seen_ = set(y[source].tolist())
        return self

    def _moved(self, X, sample_domain):
        if sample_domain is None:
            return np.asarray(X) - self.shift_
        return np.asarray(X) - self.shift_ * (np.asarray(sample_domain) < 0)[:, None]

    def predict(self, X, *, sample_domain=None):
        return self.model_.predict(self._moved(X, sample_domain))

    def predict_proba(self, X, *, sample_domain=None):
        return self.model_.predict_proba(self._moved(X, sample_domain))


def shifted_data():
    """Two classes, and a target that has moved by more than lies between them."""
    A, y = make_blobs(240, centers=[[0, 0], [4, 0]], random_state=1)
    domain = np.repeat([1, -1], 120)
    A[120:] += [3, 0]
    order = np.random.RandomState(2).permutation(240)
    return A[order], y[order], domain[order]


def test_importance_weighted_is_the_weighted_loss_of_source_rows():
    weights = density_ratio(X[SOURCE], X[~SOURCE])
    proba = MODEL.predict_proba(X[SOURCE])
    expected = -log_loss(Y[SOURCE], proba, sample_weight=weights)
    assert_allclose(
        ImportanceWeightedScorer("log")(MODEL, X, HIDDEN, sample_domain=DOMAIN), expected
    )
    wrong = MODEL.predict(X[SOURCE]) != Y[SOURCE]
    found = ImportanceWeightedScorer()(MODEL, X, HIDDEN, sample_domain=DOMAIN)
    assert_allclose(found, -np.average(wrong, weights=weights))
    ridge = Ridge().fit(X[SOURCE], X[SOURCE, 0] ** 2)
    squared = mean_squared_error(X[SOURCE, 0] ** 2, ridge.predict(X[SOURCE]), sample_weight=weights)
    found = ImportanceWeightedScorer()(ridge, X, X[:, 0] ** 2, sample_domain=DOMAIN)
    assert_allclose(found, -squared)


def test_density_ratio_is_that_of_two_gaussians():
    rng = np.random.RandomState(0)
    source, target = rng.normal(0, 1, (8000, 1)), rng.normal(0.5, 1, (4000, 1))
    truth = np.exp(0.5 * source[:, 0] - 0.125)
    assert_allclose(density_ratio(source, target), truth, rtol=0.25)
    assert np.corrcoef(density_ratio(source, target, cv=5, random=rng), truth)[0, 1] > 0.99


def test_importance_weights_estimate_the_loss_on_the_target():
    rng = np.random.RandomState(0)
    A = np.concatenate([rng.normal(0, 1, 2000), rng.normal(1, 1, 2000)])[:, None]
    y, domain = np.sin(2 * A[:, 0]), np.repeat([1, -1], 2000)
    line = LinearRegression().fit(A[:2000], y[:2000])
    truth = mean_squared_error(y[2000:], line.predict(A[2000:]))
    plain = mean_squared_error(y[:2000], line.predict(A[:2000]))
    for scorer in (ImportanceWeightedScorer(), DeepEmbeddedValidationScorer(random_state=0)):
        estimate = -scorer(line, A, y, sample_domain=domain)
        assert abs(estimate - truth) < 0.2 * abs(plain - truth)


def test_importance_weights_may_come_from_a_reweighting_method():
    class FirstOnly(BaseEstimator):
        def fit(self, X, y=None, *, sample_domain=None):
            self.sample_weight_ = np.zeros(len(X))
            self.sample_weight_[np.flatnonzero(sample_domain > 0)[:2]] = 1.0
            return self

    found = ImportanceWeightedScorer(lambda y, guess: np.arange(len(y)), method=FirstOnly())
    assert found(MODEL, X, HIDDEN, sample_domain=DOMAIN) == -0.5


def test_entropy_is_that_of_scipy_over_target_rows():
    found = PredictionEntropyScorer()(MODEL, X, sample_domain=DOMAIN)
    assert_allclose(found, -entropy(MODEL.predict_proba(X[~SOURCE]), axis=1).mean())
    tree = DecisionTreeClassifier().fit(X, Y)
    assert PredictionEntropyScorer()(tree, X, sample_domain=DOMAIN) == 0


def test_deep_embedded_is_its_formula_and_has_less_variance():
    rng = np.random.RandomState(0)
    plain, controlled = [], []
    for _ in range(200):
        source = rng.normal(size=200)
        weights, losses = np.exp(0.8 * source - 0.32), 1 + 0.3 * source
        plain.append((weights * losses).mean())
        controlled.append(controlled_mean(losses, weights))
    weighted = weights * losses
    eta = -np.cov(weighted, weights)[0, 1] / np.var(weights, ddof=1)
    assert_allclose(controlled[-1], weighted.mean() + eta * weights.mean() - eta)
    assert abs(np.mean(controlled) - 1.24) < 0.02  # E[1 + 0.3 x] where x has mean 0.8
    assert np.var(controlled) < 0.2 * np.var(plain)
    assert controlled_mean(losses, np.ones(200)) == pytest.approx(losses.mean())


def test_deep_embedded_compares_domains_in_the_features_of_the_estimator():
    flipped = np.where(X[:, 0] > 0, 1, -1)  # apart in the first feature only
    seen = []

    def features(model, A, domain):
        seen.append((model, len(A), domain.tolist()))
        return A[:, 1:]

    scorer = DeepEmbeddedValidationScorer(features=features, random_state=0)
    scorer(MODEL, X, Y, sample_domain=flipped)
    assert seen == [(MODEL, 200, flipped.tolist())]
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    by_hand = DeepEmbeddedValidationScorer(
        features=lambda model, A, domain: model[:-1].transform(A), random_state=0
    )
    by_itself = DeepEmbeddedValidationScorer(random_state=0)
    expected = by_hand(pipeline, X, Y, sample_domain=DOMAIN)
    assert by_itself(pipeline, X, Y, sample_domain=DOMAIN) == expected


def test_deep_embedded_compares_what_a_map_makes_of_rows():
    class Centred(BaseEstimator):
        def transform(self, X, *, sample_domain=None):
            return X - 3 * (np.asarray(sample_domain) < 0)[:, None]

    A, y, domain = shifted_data()
    model = Shifted().fit(A, y, sample_domain=domain)
    model.method_ = Centred()
    by_hand = DeepEmbeddedValidationScorer(
        features=lambda model, A, domain: A - 3 * (domain < 0)[:, None], random_state=0
    )
    found = DeepEmbeddedValidationScorer(random_state=0)(model, A, y, sample_domain=domain)
    assert found == by_hand(model, A, y, sample_domain=domain)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("table", [np.asarray, pd.DataFrame])
@pytest.mark.parametrize("search", [False, True])
def test_deep_embedded_looks_behind_pipelines_and_searches_for_the_map(table, search):
    A, y, domain = shifted_data()
    A = table(A)
    if isinstance(A, pd.DataFrame):
        A.columns = [f"column {i}" for i in A.columns]
    model = AdaptedClassifier(method=CORAL(reg=0))
    if search:
        grid = GridSearchCV(model, {"method__reg": [0]}, cv=TargetKFold(2))
        model = grid.fit(A, y, groups=domain, sample_domain=domain)
        adapted, before = model.best_estimator_, np.asarray(A)
    else:
        model = make_pipeline(StandardScaler(), model)
        model.fit(A, y, adaptedclassifier__sample_domain=domain)
        adapted, before = model[-1], model[:-1].transform(A)
    mapped = adapted.method_.transform(before, sample_domain=domain)
    by_hand = DeepEmbeddedValidationScorer(features=lambda *_: mapped, random_state=0)
    found = DeepEmbeddedValidationScorer(random_state=0)(model, A, y, sample_domain=domain)
    assert found == pytest.approx(by_hand(model, A, y, sample_domain=domain), rel=1e-9)


def test_circular_goes_there_and_back():
    guess = MODEL.predict(X[~SOURCE])
    back = clone(MODEL).fit(X[~SOURCE], guess).predict(X[SOURCE])
    found = CircularValidationScorer()(MODEL, X, HIDDEN, sample_domain=DOMAIN)
    assert_allclose(found, balanced_accuracy_score(Y[SOURCE], back))
    ridge = Ridge().fit(X, X[:, 0])
    back = clone(ridge).fit(X[~SOURCE], ridge.predict(X[~SOURCE])).predict(X[SOURCE])
    found = CircularValidationScorer()(ridge, X, X[:, 0], sample_domain=DOMAIN)
    assert_allclose(found, -mean_squared_error(X[SOURCE, 0], back))


def test_circular_of_a_single_predicted_class_is_chance():
    one = LogisticRegression().fit([[0, 0], [1e6, 0]], [0, 1])
    assert CircularValidationScorer()(one, X, HIDDEN, sample_domain=DOMAIN) == 0.5


def test_circular_hides_the_labels_of_the_source_from_the_way_back():
    A, y, domain = shifted_data()
    model = Shifted(0.0).fit(A, y, sample_domain=domain)
    fitted = []

    class Watched(Shifted):
        def fit(self, X, y, *, sample_domain):
            fitted.append((np.asarray(y), np.asarray(sample_domain)))
            return super().fit(X, y, sample_domain=sample_domain)

    watched = Watched(0.0).fit(A, y, sample_domain=domain)
    guess = model.predict(A, sample_domain=domain)
    CircularValidationScorer()(watched, A, y, sample_domain=domain)
    labels, reversed_domain = fitted[-1]
    assert (reversed_domain == -domain).all()
    assert (labels[domain < 0] == guess[domain < 0]).all()
    assert len(set(labels[domain > 0].tolist())) == 1


@pytest.mark.parametrize("name", SCORERS)
def test_labels_of_the_target_are_never_looked_at(name):
    scorer = SCORERS[name]
    expected = scorer(MODEL, X, Y, sample_domain=DOMAIN)
    for hidden in (HIDDEN, 1 - Y, np.where(SOURCE, Y, np.nan), [*np.where(SOURCE, Y, None)]):
        labels = np.where(SOURCE, Y, hidden)
        assert_allclose(scorer(MODEL, X, labels, sample_domain=DOMAIN), expected, rtol=1e-12)
    names = np.array(["no", "yes"])
    named = LogisticRegression().fit(X[SOURCE], names[Y[SOURCE]])
    texts = np.where(SOURCE, names[Y], "")
    assert_allclose(scorer(named, X, texts, sample_domain=DOMAIN), expected, rtol=1e-12)


@pytest.mark.parametrize("name", SCORERS)
def test_scores_do_not_depend_on_the_order_of_rows(name):
    order = np.random.RandomState(1).permutation(200)
    expected = SCORERS[name](MODEL, X, HIDDEN, sample_domain=DOMAIN)
    again = SCORERS[name](MODEL, X[order], HIDDEN[order], sample_domain=DOMAIN[order])
    assert_allclose(again, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORERS)
def test_scorers_run_in_a_search_with_metadata_routing(name):
    A, y, domain = shifted_data()
    hidden = np.where(domain > 0, y, 9)
    with sklearn.config_context(enable_metadata_routing=True):
        model = Shifted().set_fit_request(sample_domain=True)
        search = GridSearchCV(model, {"strength": [0.0, 1.0]}, scoring=SCORERS[name], cv=3)
        search.fit(A, hidden, sample_domain=domain)
        by_hand = SCORERS[name](search.best_estimator_, A, hidden, sample_domain=domain)
        assert search.score(A, hidden, sample_domain=domain) == pytest.approx(by_hand, rel=1e-6)
        scores = cross_val_score(
            model, A, hidden, scoring=SCORERS[name], cv=3, params={"sample_domain": domain}
        )
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.isfinite(scores).all()
    assert search.cv_results_["mean_test_score"][1] == pytest.approx(scores.mean())


def test_a_search_without_target_labels_finds_the_strength_that_helps():
    A, y, domain = shifted_data()
    with sklearn.config_context(enable_metadata_routing=True):
        model = Shifted().set_fit_request(sample_domain=True)
        search = GridSearchCV(
            model, {"strength": [0.0, 1.0]}, scoring=PredictionEntropyScorer(), cv=3
        )
        search.fit(A, np.where(domain > 0, y, 9), sample_domain=domain)
    accuracies = [
        (Shifted(s).fit(A, y, sample_domain=domain).predict(A) == y)[domain < 0].mean()
        for s in (0.0, 1.0)
    ]
    assert search.best_params_ == {"strength": 1.0}
    assert accuracies[1] > accuracies[0] + 0.2


@pytest.mark.parametrize("name", SCORERS)
def test_plain_classifiers_and_pipelines_are_scored_with_routing_too(name):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_val_score(
            pipeline, X, HIDDEN, scoring=SCORERS[name], cv=3, params={"sample_domain": DOMAIN}
        )
        inside = make_pipeline(
            StandardScaler(),
            Shifted()
            .set_fit_request(sample_domain=True)
            .set_predict_request(sample_domain=True)
            .set_predict_proba_request(sample_domain=True),
        )
        adapted = cross_val_score(
            inside, X, HIDDEN, scoring=SCORERS[name], cv=3, params={"sample_domain": DOMAIN}
        )
    assert np.isfinite(scores).all()
    assert np.isfinite(adapted).all()


@pytest.mark.parametrize("name", SCORERS)
def test_without_routing_domains_are_looked_up_by_the_index_of_a_frame(name):
    A, y, domain = shifted_data()
    index = np.arange(1000, 1000 + len(A))
    frame = pd.DataFrame(A, index=index)
    hidden = np.where(domain > 0, y, 9)
    scorer = clone(SCORERS[name]).set_params(sample_domain=pd.Series(domain, index=index)[::-1])
    search = GridSearchCV(Shifted(), {"strength": [0.0, 1.0]}, scoring=scorer, cv=3)
    search.fit(frame, hidden, sample_domain=domain)
    expected = SCORERS[name](search.best_estimator_, frame, hidden, sample_domain=domain)
    assert search.score(frame, hidden) == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_without_routing_a_pipeline_hands_domains_to_the_steps_that_want_them():
    A, y, domain = shifted_data()
    pipeline = make_pipeline(StandardScaler(), Shifted())
    pipeline.fit(A, y, shifted__sample_domain=domain)
    bare = Shifted().fit(A, y, sample_domain=domain)
    for scorer in (CircularValidationScorer(), PredictionEntropyScorer()):
        found = scorer(pipeline, A, y, sample_domain=domain)
        assert_allclose(found, scorer(bare, A, y, sample_domain=domain), rtol=1e-6)


def test_a_scorer_that_was_given_no_domains_names_the_cures():
    with pytest.raises(ValueError, match=r"set_config\(enable_metadata_routing=True\)"):
        cross_val_score(MODEL, X, Y, scoring=PredictionEntropyScorer(), error_score="raise")
    series = pd.Series(DOMAIN)
    with pytest.raises(ValueError, match="For arrays, enable metadata routing"):
        PredictionEntropyScorer(sample_domain=series)(MODEL, X)
    with pytest.raises(ValueError, match="index is not unique or lacks rows"):
        PredictionEntropyScorer(sample_domain=series[:5])(MODEL, pd.DataFrame(X))


def test_an_estimator_that_lacks_a_method_is_an_error_with_its_cure():
    svc = LinearSVC().fit(X, Y)
    for scorer in (PredictionEntropyScorer(), ImportanceWeightedScorer("log")):
        with pytest.raises(ValueError, match=r"LinearSVC has no predict_proba.*CalibratedClass"):
            scorer(svc, X, Y, sample_domain=DOMAIN)


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (ImportanceWeightedScorer("hinge"), r"loss must be one of .* got 'hinge'"),
        (ImportanceWeightedScorer(lambda y, z: 0.0), "loss must return one number per row"),
        (DeepEmbeddedValidationScorer(cv=1), "cv == 1"),
        (DeepEmbeddedValidationScorer(cv=150), "cv must be at most the number of rows"),
        (DeepEmbeddedValidationScorer(features="last"), "features must be 'auto' or callable"),
        (CircularValidationScorer(metric="r2"), "metric must be None or callable, got 'r2'"),
    ],
)
def test_parameters_are_checked_when_a_scorer_is_called(scorer, message):
    with pytest.raises(ValueError, match=message):
        scorer(MODEL, X, Y, sample_domain=DOMAIN)


@pytest.mark.parametrize("name", [n for n in SCORERS if n != "entropy"])
def test_scorers_that_read_source_labels_ask_for_them(name):
    with pytest.raises(ValueError, match="needs y with the labels of the source rows"):
        SCORERS[name](MODEL, X, sample_domain=DOMAIN)


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_refuse_domains_that_are_none(name):
    for domain, message in [
        (np.ones(200), "no target row"),
        (-np.ones(200), "no source row"),
        (np.zeros(200), "none of them 0"),
        (DOMAIN[:-1], "must hold 200 numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            SCORERS[name](MODEL, X, Y, sample_domain=domain)


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_are_cloned_and_pickled_and_leave_their_input_alone(name):
    A, labels, domain = X.copy(), HIDDEN.copy(), DOMAIN.copy()
    for array in (A, labels, domain):
        array.flags.writeable = False
    expected = SCORERS[name](MODEL, A, labels, sample_domain=domain)
    for again in (clone(SCORERS[name]), pickle.loads(pickle.dumps(SCORERS[name]))):
        assert again(MODEL, A, labels, sample_domain=domain) == expected
    state = np.random.get_state()
    SCORERS[name](MODEL, A.tolist(), labels.tolist(), sample_domain=domain.tolist())
    np.testing.assert_equal(np.random.get_state(), state)


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_losses_of_numbers_are_not_for_text(loss):
    text = np.array(["no", "yes"])[HIDDEN]
    model = clone(MODEL).fit(X, text)
    with pytest.raises(ValueError, match=f"loss='{loss}' needs numbers.* use 'zero_one' or 'log'"):
        ImportanceWeightedScorer(loss)(model, X, text, sample_domain=DOMAIN)
