"""Shares of classes, and what they change in scores, against scikit-learn's generative models."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit, log_softmax, logit
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB

from sktransfer.finetuning.priors import check_prior, equal_prior, log_prior, row_prior
from sktransfer.finetuning.targets import encode_targets

Y = np.array(["a"] * 12 + ["b"] * 6 + ["c"] * 2)
OLD, NEW = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])


@pytest.mark.parametrize("make", [GaussianNB, LinearDiscriminantAnalysis])
def test_a_shift_of_the_prior_is_that_of_a_generative_model_with_other_priors(make):
    rng = np.random.RandomState(0)
    codes = rng.randint(0, 3, 60)
    X = rng.normal(size=(60, 3)) + codes[:, None]
    old, new = (make(priors=prior).fit(X, codes).predict_log_proba(X) for prior in (OLD, NEW))
    shift = log_prior(NEW, "classification") - log_prior(OLD, "classification")
    assert_allclose(log_softmax(old + shift, axis=1), new, atol=1e-9)


def test_a_shift_of_the_share_of_a_label_is_bayes_rule():
    p, old, new = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.4, 0.3]), np.array([0.5, 0.1, 0.6])
    shift = log_prior(new, "multilabel") - log_prior(old, "multilabel")
    yes, no = p * new / old, (1 - p) * (1 - new) / (1 - old)
    assert_allclose(expit(logit(p) + shift), yes / (yes + no))


def test_shares_are_those_of_the_weights_of_the_rows():
    weights = np.random.RandomState(0).uniform(0, 3, 20)
    targets = encode_targets(Y, n_rows=20, sample_weight=weights)
    expected = [weights[name == Y].sum() / weights.sum() for name in "abc"]
    assert_allclose(row_prior(targets), expected, rtol=1e-6)
    assert_allclose(row_prior(encode_targets(Y, n_rows=20)), [0.6, 0.3, 0.1], rtol=1e-6)


def test_balanced_weights_or_a_balanced_sampler_leave_equal_shares():
    weighted = encode_targets(Y, n_rows=20, class_weight="balanced")
    assert_allclose(row_prior(weighted), equal_prior("classification", 3), rtol=1e-6)
    sampled = row_prior(encode_targets(Y, n_rows=20), "balanced")
    assert_allclose(sampled, equal_prior("classification", 3), rtol=1e-6)
    # Both at once turn the shares around.
    assert_allclose(row_prior(weighted, "balanced"), np.array([1, 2, 6]) / 9, rtol=1e-6)


def test_a_class_without_rows_has_the_share_that_a_head_gives_it():
    targets = encode_targets(Y, n_rows=20, classes=["a", "b", "c", "d"])
    found = row_prior(targets)
    assert_allclose(found[3], 1 / 22, rtol=1e-6)
    assert_allclose(found[:3] / found[:3].sum(), [0.6, 0.3, 0.1], rtol=1e-6)


def test_the_shares_of_labels_are_of_their_own_and_never_all_or_nothing():
    labels = np.stack([Y == "a", np.ones(20), np.zeros(20)], axis=1).astype(int)
    found = row_prior(encode_targets(labels, n_rows=20))
    assert_allclose(found, [0.6, 20 / 21, 1 / 21], rtol=1e-6)


def test_a_prior_is_balanced_a_dict_or_an_array():
    classes = np.array(["a", "b", "c"])
    assert_allclose(check_prior("balanced", classes, "classification"), np.ones(3) / 3)
    assert_allclose(check_prior("balanced", np.arange(2), "multilabel"), [0.5, 0.5])
    shares = {"c": 0.5, "a": 0.2, "b": 0.3}
    assert_allclose(check_prior(shares, classes, "classification"), [0.2, 0.3, 0.5])
    assert_allclose(check_prior((0.2, 0.3, 0.5), classes, "classification"), [0.2, 0.3, 0.5])
    assert_allclose(check_prior([0.9, 0.8], np.arange(2), "multilabel"), [0.9, 0.8])


@pytest.mark.parametrize(
    ("prior", "task", "message"),
    [
        ("uniform", "classification", "must be None, 'balanced', a dict or an array"),
        ({0: 0.5, 1: 0.5}, "classification", "give a share to each of the classes"),
        ([0.5, 0.5], "classification", "one share for each of the classes"),
        ([0.5, 0.5, 0.5], "classification", "with a sum of 1, got .* a sum of 1.5"),
        ([0.5, 0.5, 0.0], "classification", "positive shares"),
        ([np.nan, 0.5, 0.5], "classification", "positive shares"),
        ([0.5, 0.5, 1.0], "multilabel", "between 0 and 1"),
    ],
)
def test_what_is_no_prior_is_an_error_that_tells_the_rule(prior, task, message):
    with pytest.raises(ValueError, match=message):
        check_prior(prior, np.arange(3), task)
