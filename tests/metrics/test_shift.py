"""Verdicts on gaps of known kinds."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import kstest
from sklearn.datasets import load_digits, make_moons
from sklearn.naive_bayes import GaussianNB

from sktransfer.metrics import ShiftReport, diagnose_shift, mmd
from sktransfer.metrics import _shift_tests as tests

SEEDS = range(4)


def pool(name, rng):
    if name == "digits":
        X, y = load_digits(return_X_y=True)
    elif name == "moons":
        X, y = make_moons(1600, noise=0.2, random_state=rng)
    else:
        X = rng.normal(size=(1600, 2))
        y = (rng.uniform(size=1600) < 1 / (1 + np.exp(-2 * X[:, 0] - X[:, 1]))).astype(int)
    order = rng.permutation(len(X))
    return X[order], y[order]


def shifted(name, kind, seed):
    """Source rows, their labels, and target rows chosen at random, by features or by labels."""
    rng = np.random.RandomState(seed)
    X, y = pool(name, rng)
    half = len(X) // 2
    chance = np.ones(len(X))
    if kind == "label":
        chance = np.linspace(0.15, 1, y.max() + 1)[y]
    elif kind == "covariate":
        score = (X - X.mean(0)) / (X.std(0) + 1e-12) @ rng.normal(size=X.shape[1])
        if name == "lines":
            score = -np.abs(X[:, 1])  # no shares of the classes look like that
        chance = 1 / (1 + np.exp(-2 * (score - score.mean()) / score.std()))
    kept = rng.uniform(size=len(X)) < chance
    kept[:half] = False
    return X[:half], X[kept], y[:half]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "label", "covariate"])
@pytest.mark.parametrize("name", ["lines", "moons", "digits"])
def test_verdicts_are_right_nearly_always(name, kind):
    verdicts = [diagnose_shift(*shifted(name, kind, s), random_state=s).kind for s in SEEDS]
    assert verdicts.count(kind) >= len(SEEDS) - 1


def test_label_shift_comes_with_the_ratios_of_classes():
    X, y = pool("moons", np.random.RandomState(0))
    names = np.array(["low", "high"])[y]
    target = np.concatenate([X[800:][y[800:] == 0][:100], X[800:][y[800:] == 1][:300]])
    report = diagnose_shift(X[:800], target, names[:800], random_state=0)
    assert (report.kind, report.family) == ("label", "instance")
    assert "class_weight" in report.advice
    for label, share in (("low", 0.25), ("high", 0.75)):
        truth = share / (names[:800] == label).mean()
        assert report.class_weight[label] == pytest.approx(truth, abs=0.1)


@pytest.mark.slow
def test_p_values_of_label_shift_are_uniform_under_it():
    pvalues = []
    for seed in range(60):
        rng = np.random.RandomState(seed)
        y = (rng.uniform(size=350) < np.where(np.arange(350) < 200, 0.5, 0.8)).astype(int)
        X = rng.normal(size=(350, 3)) + 1.2 * y[:, None]
        source, codes, target = X[:200], y[:200], X[200:]
        guesses = tests.predicted(source, codes, target, GaussianNB(), rng)
        ratios = tests.class_ratios(codes, *guesses)
        values = tests.moments(source, target, rng)
        pvalues.append(tests.label_shift_alone(values, codes, *guesses, ratios))
    assert kstest(pvalues, "uniform").pvalue > 0.01


def test_ratios_of_classes_are_the_true_ones_for_a_known_classifier():
    codes = np.repeat([0, 1], [60, 40])
    # Right in 90 % and 80 % of the cases, whichever the domain.
    of_source = np.eye(2)[np.concatenate([np.repeat([0, 1], [54, 6]), np.repeat([1, 0], [32, 8])])]
    of_target = np.eye(2)[np.concatenate([np.repeat([0, 1], [18, 2]), np.repeat([1, 0], [64, 16])])]
    assert_allclose(tests.class_ratios(codes, of_source, of_target), [0.2 / 0.6, 0.8 / 0.4])
    assert tests.class_ratios(codes, np.full((100, 2), 0.5), of_target) is None


@pytest.mark.slow
def test_a_covered_target_is_for_weights_and_an_uncovered_one_for_maps():
    covered = diagnose_shift(*shifted("lines", "covariate", 0), random_state=0)
    assert covered.family == "instance"
    assert covered.outside_support < 0.05
    X, y = pool("lines", np.random.RandomState(0))
    away = diagnose_shift(X[:800], X[800:] + 5, y[:800], random_state=0)
    assert (away.kind, away.family) == ("covariate", "feature")
    assert away.outside_support > 0.8
    assert away.proxy_a_distance > 1.8
    assert away.mean_gap > 1.5
    turned = diagnose_shift(X[:800] * [1, 5], X[800:] * [5, 1], y[:800], random_state=0)
    assert turned.kind == "covariate"
    assert turned.covariance_gap > 0.5


@pytest.mark.slow
def test_without_labels_a_gap_is_of_unknown_kind():
    source, target, y = shifted("lines", "covariate", 0)
    report = diagnose_shift(source, target, random_state=0)
    assert (report.kind, report.class_weight, report.label_pvalue) == ("unknown", None, None)
    assert diagnose_shift(source, source[::-1], random_state=0).kind == "none"
    meaningless = np.random.RandomState(0).randint(0, 2, len(y))
    assert diagnose_shift(source, target, meaningless, random_state=0).kind == "unknown"
    assert diagnose_shift(source, target, np.zeros(len(y)), random_state=0).kind == "unknown"


def test_figures_without_a_gap_are_small():
    report = diagnose_shift(*shifted("lines", "none", 1), random_state=0)
    assert (report.kind, report.family) == ("none", "none")
    assert abs(report.mmd) < 0.005
    assert abs(report.proxy_a_distance) < 0.2
    assert report.outside_support < 0.03
    assert report.effective_sample_share > 0.9
    assert report.mean_gap < 0.15
    assert report.covariance_gap < 0.2


def test_the_report_prints_as_a_table_and_cannot_be_changed():
    source, target, y = shifted("moons", "label", 0)
    report = diagnose_shift(source, target, y, random_state=0)
    lines = str(report).splitlines()
    assert lines[0] == "kind of shift: label"
    assert lines[1].startswith("advice: weight the classes")
    assert any(line.split()[0] == "class_weight" and "0: " in line for line in lines[2:])
    assert len(lines) == len(dataclasses.fields(ShiftReport)) - 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.kind = "none"


@pytest.mark.slow
def test_the_mmd_is_that_of_standardised_features_in_any_units():
    source, target, y = shifted("lines", "covariate", 0)
    both = np.concatenate([source, target])
    mean, scale = both.mean(0), both.std(0)
    report = diagnose_shift(source, target, y, random_state=0)
    assert_allclose(report.mmd, mmd((source - mean) / scale, (target - mean) / scale))
    units = np.array([1e-3, 1e4])
    again = diagnose_shift(source * units + 7, target * units + 7, y, random_state=0)
    assert again.kind == report.kind
    assert_allclose(again.mmd, report.mmd, rtol=1e-6)


def test_more_rows_than_max_rows_are_sampled_and_the_generator_is_left_alone():
    source, target, y = shifted("moons", "label", 1)
    source.flags.writeable = target.flags.writeable = y.flags.writeable = False
    before = np.random.get_state()
    report = diagnose_shift(source, target, y, max_rows=300, random_state=3)
    assert report == diagnose_shift(source, target, y, max_rows=300, random_state=3)
    assert report.kind == "label"
    np.testing.assert_equal(np.random.get_state(), before)


def test_constant_features_and_few_rows_are_no_obstacle():
    rng = np.random.RandomState(0)
    A, B = rng.normal(size=(25, 3)), rng.normal(size=(22, 3))
    A[:, 1] = B[:, 1] = 0.1
    assert diagnose_shift(A, B, np.arange(25) % 2, random_state=0).kind == "none"
    same = diagnose_shift(np.ones((30, 2)), np.ones((30, 2)), random_state=0)
    assert (same.kind, same.covariance_gap) == ("none", 0.0)


def test_unsound_input_is_refused():
    A = np.random.RandomState(0).normal(size=(30, 3))
    with pytest.raises(ValueError, match="equally many features, got 3 and 2"):
        diagnose_shift(A, A[:, :2])
    with pytest.raises(ValueError, match="alpha"):
        diagnose_shift(A, A, alpha=1.0)
    with pytest.raises(ValueError, match="max_rows"):
        diagnose_shift(A, A, max_rows=10)
    with pytest.raises(ValueError, match="y_source must hold labels, got continuous"):
        diagnose_shift(A, A, A[:, 0])
    with pytest.raises(ValueError, match="minimum of 20 is required"):
        diagnose_shift(A[:5], A)
