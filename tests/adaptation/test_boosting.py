"""TrAdaBoost beside AdaBoost, and beside its equations."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import AdaBoostClassifier
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import check_estimator

from sktransfer.adaptation.boosting import TrAdaBoostClassifier, TrAdaBoostRegressor
from sktransfer.exceptions import DomainWarning

both = pytest.mark.parametrize("cls", [TrAdaBoostClassifier, TrAdaBoostRegressor])


class RecordingTree(DecisionTreeClassifier):
    """Remembers the weights of its fit."""

    def fit(self, X, y, sample_weight=None):
        self.weights_ = sample_weight.copy()
        return super().fit(X, y, sample_weight=sample_weight)


class RecordingRegressor(DecisionTreeRegressor):
    def fit(self, X, y, sample_weight=None):
        self.weights_ = sample_weight.copy()
        return super().fit(X, y, sample_weight=sample_weight)


@pytest.fixture
def moved():
    """A border that lies elsewhere in the target, of which 20 rows have labels."""
    random = np.random.RandomState(0)
    X = random.uniform(-1, 1, (260, 2))
    sample_domain = np.where(np.arange(260) < 160, 1, -1)
    border = np.where(sample_domain > 0, 0.3, -0.1)
    y = (X[:, 0] + 0.2 * X[:, 1] > border).astype(int)
    return X, y, sample_domain, (np.arange(260) >= 160) & (np.arange(260) < 180)


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.DomainWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@both
@pytest.mark.slow
def test_check_estimator_passes_and_skips_nothing(cls):
    # Five rounds, as scikit-learn checks its own AdaBoost.
    results = check_estimator(cls(n_estimators=5), on_skip=None, on_fail=None)
    other = [(r["check_name"], r["status"], r["exception"]) for r in results]
    assert [entry for entry in other if entry[1] != "passed"] == []
    assert len(results) >= 50


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 4])
def test_without_domains_it_is_adaboost_with_a_warning(n_classes):
    X, y = make_classification(
        300, 10, n_informative=5, n_classes=n_classes, flip_y=0.1, random_state=0
    )
    with pytest.warns(DomainWarning, match="labelled target rows, as in AdaBoost"):
        boost = TrAdaBoostClassifier(random_state=0).fit(X, y)
    ada = AdaBoostClassifier(random_state=0).fit(X, y)
    np.testing.assert_allclose(boost.estimator_errors_, ada.estimator_errors_, atol=1e-12)
    np.testing.assert_allclose(boost.estimator_weights_, ada.estimator_weights_, atol=1e-10)
    np.testing.assert_allclose(boost.decision_function(X), ada.decision_function(X), atol=1e-12)
    np.testing.assert_allclose(boost.predict_proba(X), ada.predict_proba(X), atol=1e-12)
    np.testing.assert_array_equal(boost.predict(X), ada.predict(X))
    assert (boost.source_share_ == 0).all()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_without_weight_of_the_source_errors_are_those_of_adaboost(n_classes):
    X, y = make_classification(
        300, 10, n_informative=5, n_classes=n_classes, flip_y=0.1, random_state=0
    )
    is_target = np.arange(300) % 3 > 0
    boost = TrAdaBoostClassifier(random_state=0).fit(
        X,
        y,
        sample_domain=np.where(is_target, -1, 1),
        target_labeled=is_target,
        sample_weight=is_target.astype(float),
    )
    ada = AdaBoostClassifier(random_state=0).fit(X[is_target], y[is_target])
    np.testing.assert_allclose(boost.estimator_errors_, ada.estimator_errors_, atol=1e-10)


def test_weights_follow_the_equations_of_the_paper(moved):
    X, y, sample_domain, labelled = moved
    n_rounds = 8
    boost = TrAdaBoostClassifier(RecordingTree(max_depth=1), n_estimators=n_rounds)
    boost.fit(X, y, sample_domain=sample_domain, target_labeled=labelled)
    used = (sample_domain > 0) | labelled
    X, y, is_source = X[used], y[used], sample_domain[used] > 0
    beta = 1 / (1 + np.sqrt(2 * np.log(160) / n_rounds))
    assert boost.beta_ == pytest.approx(beta, rel=1e-15)
    weights = np.full(180, 1 / 180)
    for t, tree in enumerate(boost.estimators_):
        np.testing.assert_allclose(tree.weights_, weights, rtol=1e-10)
        assert boost.source_share_[t] == pytest.approx(weights[is_source].sum())
        wrong = tree.predict(X) != y
        error = weights[wrong & ~is_source].sum() / weights[~is_source].sum()
        assert boost.estimator_errors_[t] == pytest.approx(error, abs=1e-12)
        chance = error > 0.5 - 1e-10
        beta_t = 1.0 if chance else error / (1 - error)
        assert boost.estimator_weights_[t] == pytest.approx(-np.log(beta_t))
        beta_t = beta if chance else beta_t  # where the paper would stop
        weights = np.where(is_source, weights * beta**wrong, weights * beta_t ** -(wrong * 1.0))
        weights /= weights.sum()
    # As in the paper: rounds N/2 to N vote, and 1 wins with half of the votes.
    voters = range(n_rounds // 2 - 1, n_rounds)
    for_one = sum(boost.estimator_weights_[t] * boost.estimators_[t].predict(X) for t in voters)
    expected = for_one > boost.estimator_weights_[voters].sum() / 2
    np.testing.assert_array_equal(boost.predict(X), expected)


def test_votes_of_several_classes_are_those_of_samme(moved):
    X, y, sample_domain, labelled = moved
    y = y + (X[:, 1] > 0.2)
    boost = TrAdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=6)
    boost.fit(X, y, sample_domain=sample_domain, target_labeled=labelled)
    errors = np.maximum(boost.estimator_errors_, 1e-6)
    expected = np.where(errors < 2 / 3, np.log((1 - errors) / errors) + np.log(2), 0)
    np.testing.assert_allclose(boost.estimator_weights_, expected)
    assert boost.predict_proba(X).shape == (260, 3)
    np.testing.assert_allclose(boost.predict_proba(X).sum(axis=1), 1)
    np.testing.assert_array_equal(boost.predict(X), boost.predict_proba(X).argmax(axis=1))
    np.testing.assert_allclose(boost.decision_function(X).sum(axis=1), 0, atol=1e-12)


def test_source_rows_help_where_few_target_rows_have_labels(moved):
    X, y, sample_domain, labelled = moved
    rest = (sample_domain < 0) & ~labelled
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    boost = TrAdaBoostClassifier(tree, random_state=0)
    boost.fit(X, y, sample_domain=sample_domain, target_labeled=labelled)
    alone = clone(tree).fit(X[sample_domain > 0], y[sample_domain > 0])
    assert boost.score(X[rest], y[rest]) > alone.score(X[rest], y[rest]) + 0.05
    assert boost.source_share_[-1] < boost.source_share_[0]


def test_a_source_whose_labels_are_reversed_loses_its_weight(moved):
    X, y, sample_domain, labelled = moved
    y = np.where(sample_domain > 0, 1 - y, y)
    boost = TrAdaBoostClassifier(n_estimators=100, random_state=0)
    boost.fit(X, y, sample_domain=sample_domain, target_labeled=labelled)
    assert boost.estimator_errors_[0] > 0.5  # which the paper has no answer to
    assert boost.source_share_[-1] < 0.01
    rest = (sample_domain < 0) & ~labelled
    assert boost.score(X[rest], y[rest]) > 0.8


@pytest.mark.parametrize("labels", [["no", "yes"], [-1, 1], [3, 7], [False, True]])
def test_labels_may_be_of_any_kind_and_come_back(moved, labels):
    X, y, sample_domain, labelled = moved
    fit = {"sample_domain": sample_domain, "target_labeled": labelled}
    plain = TrAdaBoostClassifier(random_state=0).fit(X, y, **fit)
    named = TrAdaBoostClassifier(random_state=0).fit(X, np.array(labels)[y], **fit)
    assert named.classes_.tolist() == labels
    np.testing.assert_array_equal(named.predict(X), np.array(labels)[plain.predict(X)])


@both
def test_labels_of_other_target_rows_are_not_looked_at_and_nothing_is_written_to(moved, cls):
    X, y, sample_domain, labelled = moved
    hidden = np.where((sample_domain < 0) & ~labelled, np.nan, y)
    for array in (X, hidden, sample_domain, labelled):
        array.flags.writeable = False
    state = np.random.get_state()
    fit = {"sample_domain": sample_domain, "target_labeled": labelled}
    seen = cls(random_state=0).fit(X, y.astype(float), **fit).predict(X)
    np.testing.assert_array_equal(cls(random_state=0).fit(X, hidden, **fit).predict(X), seen)
    np.testing.assert_equal(np.random.get_state(), state)
    frame = pd.DataFrame(X, columns=["a", "b"])
    again = cls(random_state=0).fit(frame, pd.Series(hidden), **fit)
    assert again.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).predict(frame), seen)


@both
def test_the_order_of_rows_does_not_matter(moved, cls):
    X, y, sample_domain, labelled = moved
    order = np.random.RandomState(0).permutation(260)
    tree = {
        TrAdaBoostClassifier: DecisionTreeClassifier,
        TrAdaBoostRegressor: DecisionTreeRegressor,
    }
    make = lambda: cls(tree[cls](max_depth=2, random_state=0), n_estimators=6, random_state=0)  # noqa: E731
    first = make().fit(X, y, sample_domain=sample_domain, target_labeled=labelled)
    other = make().fit(
        X[order], y[order], sample_domain=sample_domain[order], target_labeled=labelled[order]
    )
    np.testing.assert_allclose(other.estimator_errors_, first.estimator_errors_, atol=1e-9)
    np.testing.assert_allclose(other.predict(X), first.predict(X), atol=1e-9)


def test_regression_follows_the_equations_of_the_paper(moved):
    X, _, sample_domain, labelled = moved
    y = X[:, 0] ** 2 + np.where(sample_domain > 0, X[:, 1], 0)
    boost = TrAdaBoostRegressor(RecordingRegressor(max_depth=2), n_estimators=7)
    boost.fit(X, y, sample_domain=sample_domain, target_labeled=labelled)
    used = (sample_domain > 0) | labelled
    X, y, is_source = X[used], y[used], sample_domain[used] > 0
    beta = 1 / (1 + np.sqrt(2 * np.log(160) / 7))
    weights = np.full(180, 1 / 180)
    for t, tree in enumerate(boost.estimators_):
        np.testing.assert_allclose(tree.weights_, weights, rtol=1e-9)
        loss = np.abs(tree.predict(X) - y)
        loss /= loss.max()
        error = weights[~is_source] @ loss[~is_source] / weights[~is_source].sum()
        assert boost.estimator_errors_[t] == pytest.approx(error)
        beta_t = error / (1 - error)
        assert beta_t < 1
        weights = np.where(is_source, weights * beta**loss, weights * beta_t**-loss)
        weights /= weights.sum()
    votes = np.log(1 / (boost.estimator_errors_ / (1 - boost.estimator_errors_)))[3:]
    predicted = np.array([tree.predict(X) for tree in boost.estimators_[3:]])
    for row, value in enumerate(boost.predict(X)):
        below = votes[predicted[:, row] < value].sum()
        above = votes[predicted[:, row] > value].sum()
        assert max(below, above) <= votes.sum() / 2 * (1 + 1e-12)


def test_regression_uses_the_source_and_is_corrected_by_the_target(moved):
    X, _, sample_domain, labelled = moved
    y = np.sin(3 * X[:, 0]) + np.where(sample_domain > 0, 0.4 * (X[:, 0] > 0.2), 0)
    rest = (sample_domain < 0) & ~labelled
    boost = TrAdaBoostRegressor(random_state=0)
    boost.fit(X, y, sample_domain=sample_domain, target_labeled=labelled)
    source = DecisionTreeRegressor(max_depth=3).fit(X[sample_domain > 0], y[sample_domain > 0])
    assert boost.score(X[rest], y[rest]) > source.score(X[rest], y[rest])


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.DomainWarning")
def test_rounds_end_where_nothing_changes_any_more():
    X, y = np.arange(6.0)[:, None], np.array([0, 0, 0, 1, 1, 1])
    boost = TrAdaBoostClassifier().fit(X, y)
    assert boost.estimator_errors_.tolist() == [0.0]
    np.testing.assert_array_equal(boost.predict(X), y)
    constant = TrAdaBoostRegressor().fit(X, np.ones(6))
    assert len(constant.estimators_) == 1
    np.testing.assert_array_equal(constant.predict(X), 1)


def test_linear_regression_will_do_as_an_estimator(moved):
    X, _, sample_domain, labelled = moved
    y = X @ [1.0, 2.0]
    boost = TrAdaBoostRegressor(LinearRegression(), n_estimators=3)
    boost.fit(X, y, sample_domain=sample_domain, target_labeled=labelled)
    np.testing.assert_allclose(boost.predict(X), y, atol=1e-10)


@both
def test_no_labelled_target_row_is_an_error_that_names_what_to_do(moved, cls):
    X, y, sample_domain, _ = moved
    for labelled in (None, np.zeros(260, dtype=bool), sample_domain > 0):
        with pytest.raises(ValueError, match="target_labeled marks no target row.*KLIEP"):
            cls().fit(X, y, sample_domain=sample_domain, target_labeled=labelled)


def test_an_estimator_that_takes_no_weights_is_an_error(moved):
    X, y, sample_domain, labelled = moved
    with pytest.raises(ValueError, match="estimator must accept sample_weight"):
        TrAdaBoostClassifier(KNeighborsClassifier()).fit(
            X, y, sample_domain=sample_domain, target_labeled=labelled
        )


def test_rounds_no_better_than_chance_are_an_error_that_says_so(moved):
    X, _, sample_domain, labelled = moved
    y = (np.arange(260) >= 165).astype(int)
    with pytest.raises(ValueError, match="better than chance on the labelled target rows"):
        TrAdaBoostClassifier(n_estimators=1).fit(
            np.zeros_like(X), y, sample_domain=sample_domain, target_labeled=labelled
        )


@both
def test_weights_to_begin_with_count_as_that_many_rows(moved, cls):
    X, y, sample_domain, labelled = moved
    counts = np.random.RandomState(0).randint(0, 3, 260)
    options = {"n_estimators": 3, "random_state": 0}
    weighted = cls(**options).fit(
        X,
        y,
        sample_domain=sample_domain,
        target_labeled=labelled,
        sample_weight=counts,
    )
    rows = np.repeat(np.arange(260), counts)
    # beta depends on the number of rows, so that one round is compared.
    repeated = cls(**options).fit(
        X[rows], y[rows], sample_domain=sample_domain[rows], target_labeled=labelled[rows]
    )
    assert weighted.estimator_errors_[0] == pytest.approx(repeated.estimator_errors_[0])
    for weights, message in [(np.ones(3), "one weight per row"), (-np.ones(260), "Negative")]:
        with pytest.raises(ValueError, match=message):
            cls().fit(
                X,
                y,
                sample_domain=sample_domain,
                target_labeled=labelled,
                sample_weight=weights,
            )
    with pytest.raises(ValueError, match="sample_weight is zero for every labelled target row"):
        cls().fit(
            X,
            y,
            sample_domain=sample_domain,
            target_labeled=labelled,
            sample_weight=~labelled * 1.0,
        )


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.DomainWarning")
def test_wrong_parameters_and_labels_are_errors_that_name_them():
    X, y = np.arange(4.0)[:, None], np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="n_estimators"):
        TrAdaBoostClassifier(n_estimators=0).fit(X, y)
    with pytest.raises(ValueError, match="one class"):
        TrAdaBoostClassifier().fit(X, np.zeros(4))
    with pytest.raises(ValueError, match="Unknown label type"):
        TrAdaBoostClassifier().fit(X, y + 0.5)
