"""TargetKFold and LeaveOneDomainOut, by themselves and inside scikit-learn's searches."""

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    BaseCrossValidator,
    GridSearchCV,
    KFold,
    LeaveOneGroupOut,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer.adaptation.prototypes import PrototypeTransferClassifier
from sktransfer.model_selection import (
    LeaveOneDomainOut,
    StratifiedDomainShuffleSplit,
    TargetKFold,
)

SPLITTERS = [
    TargetKFold(n_splits=3),
    StratifiedDomainShuffleSplit(n_splits=2, test_size=0.3, random_state=0),
    LeaveOneDomainOut(),
]


@pytest.fixture
def several_domains():
    """90 rows of two sources and two targets, in random order, with two classes in each."""
    random = np.random.RandomState(0)
    sample_domain = random.permutation(np.repeat([1, 2, -1, -2], [30, 20, 25, 15]))
    y = random.randint(0, 2, 90)
    X = y[:, None] * 4 + random.normal(size=(90, 3)) + 0.3 * sample_domain[:, None]
    return X, y, sample_domain


class Seen(ClassifierMixin, BaseEstimator):
    """Notes the domains that it was fitted with."""

    def fit(self, X, y, sample_domain=None):
        self.classes_ = np.unique(y)
        self.domains_ = sample_domain
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_target_folds_are_k_folds_of_the_target_and_the_rest_trains(several_domains):
    X, y, sample_domain = several_domains
    target = np.flatnonzero(sample_domain < 0)
    splits = list(TargetKFold(n_splits=4).split(X, y, sample_domain=sample_domain))
    expected = [target[test] for _, test in KFold(4).split(target)]
    for (train, test), fold in zip(splits, expected, strict=True):
        np.testing.assert_array_equal(test, fold)
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(90))
        assert set(np.flatnonzero(sample_domain > 0)) <= set(train)


def test_a_shuffle_follows_random_state_alone(several_domains):
    X, _, sample_domain = several_domains
    np.random.seed(0)
    state = np.random.get_state()

    def folds(random_state):
        splitter = TargetKFold(shuffle=True, random_state=random_state)
        return [test.tolist() for _, test in splitter.split(X, sample_domain=sample_domain)]

    assert folds(1) == folds(1)
    assert folds(1) != folds(2)
    np.testing.assert_equal(np.random.get_state(), state)


def test_each_domain_is_left_out_once_as_groups_are(several_domains):
    X, y, sample_domain = several_domains
    expected = list(LeaveOneGroupOut().split(X, y, sample_domain))
    splitter = LeaveOneDomainOut()
    assert splitter.get_n_splits(X, y, sample_domain=sample_domain) == 4
    for (train, test), (other_train, other_test) in zip(
        splitter.split(X, y, sample_domain=sample_domain), expected, strict=True
    ):
        np.testing.assert_array_equal(train, other_train)
        np.testing.assert_array_equal(test, other_test)


@pytest.mark.parametrize(("held_out", "turns"), [("source", [1, 2]), ("target", [-2, -1])])
def test_domains_of_one_side_can_take_turns(held_out, turns, several_domains):
    X, _, sample_domain = several_domains
    splitter = LeaveOneDomainOut(held_out)
    splits = list(splitter.split(X, sample_domain=sample_domain))
    assert [np.unique(sample_domain[test]).tolist() for _, test in splits] == [[t] for t in turns]
    assert all(len(np.unique(sample_domain[train])) == 3 for train, _ in splits)
    assert splitter.get_n_splits(groups=sample_domain) == 2


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
def test_domains_may_come_as_groups_and_sample_domain_goes_first(splitter, several_domains):
    X, y, sample_domain = several_domains
    named = list(splitter.split(X, y, sample_domain=sample_domain))
    for groups, domains in [(sample_domain, None), (-sample_domain, sample_domain)]:
        again = list(splitter.split(X, y, groups, sample_domain=domains))
        for (train, test), (other_train, other_test) in zip(named, again, strict=True):
            np.testing.assert_array_equal(train, other_train)
            np.testing.assert_array_equal(test, other_test)


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
def test_a_search_without_routing_takes_domains_as_groups(splitter, several_domains):
    X, y, sample_domain = several_domains
    search = GridSearchCV(
        PrototypeTransferClassifier(), {"n_iterations": [0, 3]}, cv=splitter, error_score="raise"
    )
    search.fit(X, y, groups=sample_domain, sample_domain=sample_domain)
    assert search.n_splits_ == splitter.get_n_splits(X, y, sample_domain)
    assert search.best_score_ > 0.9


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
def test_a_search_with_routing_hands_domains_to_splitter_and_estimator(splitter, several_domains):
    X, y, sample_domain = several_domains
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = PrototypeTransferClassifier().set_fit_request(sample_domain=True)
        pipeline = make_pipeline(StandardScaler(), classifier)
        search = GridSearchCV(
            pipeline,
            {"prototypetransferclassifier__n_iterations": [0, 3]},
            cv=splitter,
            error_score="raise",
        )
        search.fit(X, y, sample_domain=sample_domain)
    assert search.n_splits_ == splitter.get_n_splits(X, y, sample_domain)
    assert search.best_score_ > 0.9


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
@pytest.mark.parametrize("name", ["sample_domain", "groups"])
def test_cross_val_score_with_routing_needs_no_request_of_the_splitter(
    name, splitter, several_domains
):
    X, y, sample_domain = several_domains
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_val_score(
            LogisticRegression().set_fit_request(sample_weight=False),
            X,
            y,
            cv=splitter,
            params={name: sample_domain},
        )
    assert len(scores) == splitter.get_n_splits(X, y, sample_domain)


@pytest.mark.parametrize("routing", [False, True])
def test_estimators_get_the_domains_of_their_training_rows(routing, several_domains):
    X, y, sample_domain = several_domains
    splitter = TargetKFold(n_splits=3)
    with sklearn.config_context(enable_metadata_routing=routing):
        estimator = Seen().set_fit_request(sample_domain=True) if routing else Seen()
        passed = {} if routing else {"groups": sample_domain}
        found = cross_validate(
            estimator,
            X,
            y,
            cv=splitter,
            params={"sample_domain": sample_domain},
            return_estimator=True,
            **passed,
        )
    for fitted, (train, _) in zip(
        found["estimator"], splitter.split(X, sample_domain=sample_domain), strict=True
    ):
        np.testing.assert_array_equal(fitted.domains_, sample_domain[train])


def test_leaving_each_domain_out_predicts_every_row_once(several_domains):
    X, y, sample_domain = several_domains
    predicted = cross_val_predict(
        LogisticRegression(), X, y, cv=LeaveOneDomainOut(), groups=sample_domain
    )
    assert (predicted == y).mean() > 0.9


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
def test_splitters_are_scikit_learns_in_name_and_parameters(splitter):
    assert eval(repr(splitter)).__dict__ == splitter.__dict__
    assert repr(splitter).startswith(type(splitter).__name__ + "(")
    assert callable(splitter.set_split_request)
    assert clone(splitter, safe=False).__dict__ == splitter.__dict__
    if not isinstance(splitter, StratifiedDomainShuffleSplit):
        assert isinstance(splitter, BaseCrossValidator)


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
def test_wrong_domains_are_refused_with_the_next_step(splitter, several_domains):
    X, y, sample_domain = several_domains
    with pytest.raises(ValueError, match="needs sample_domain.*enable_metadata_routing.*as groups"):
        next(splitter.split(X, y))
    with pytest.raises(ValueError, match="sample_domain must hold numbers"):
        next(splitter.split(X, y, sample_domain=np.zeros(90)))
    with pytest.raises(ValueError, match="groups must hold numbers"):
        next(splitter.split(X, y, np.full(90, "a")))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        next(splitter.split(X, y, sample_domain=sample_domain[:50]))


def test_what_cannot_be_split_is_explained():
    X = np.zeros((4, 1))
    with pytest.raises(ValueError, match="n_splits=5 folds need as many target rows .*got 2"):
        next(TargetKFold().split(X, sample_domain=[1, 1, -1, -1]))
    with pytest.raises(ValueError, match="n_splits == 1, must be >= 2"):
        next(TargetKFold(1).split(X, sample_domain=[1, 1, -1, -1]))
    with pytest.raises(ValueError, match="at least two domains, got 1"):
        next(LeaveOneDomainOut().split(X, sample_domain=[1, 1, 1, 1]))
    with pytest.raises(ValueError, match="held_out='target', but sample_domain holds no such"):
        LeaveOneDomainOut("target").get_n_splits(sample_domain=[1, 1, 2, 2])
    with pytest.raises(ValueError, match="held_out must be one of"):
        LeaveOneDomainOut("both").get_n_splits(sample_domain=[1, 1, 2, 2])
