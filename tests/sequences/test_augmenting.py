"""Series that are changed at random, in training and in prediction."""

import random

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sktransfer import FineTune, FineTunedClassifier, RNNSequenceFeatures
from sktransfer.networks.seeding import seeded
from sktransfer.sequences.augmenting import STRENGTHS, RandomSeries, changed
from sktransfer.sequences.source import Sequences
from tests.helpers.series import waves

HOW = {"weights": "random", "hidden_size": 4, "views": "z+g", "pooling": "mean", "random_state": 0}


def classifier(features=None, **how):
    return FineTunedClassifier(features or RNNSequenceFeatures(**HOW), random_state=0, **how)


def noisy(series):
    """A change that draws from all global generators."""
    scale = 1 + random.random() + np.random.normal() + float(torch.rand(()))
    return scale * series[np.random.randint(3) :]


def together(series):
    lengths = np.array([len(each) for each in series])
    missing = np.zeros((len(series), series[0].shape[1]))
    return Sequences(np.concatenate(series), lengths, missing)


@pytest.mark.parametrize("name", STRENGTHS)
@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_named_changes_keep_shape_and_range_roughly_and_are_seeded(name, length):
    series = np.random.RandomState(0).normal((5, 0), 1, (length, 2))
    with seeded(3):
        first, second = STRENGTHS[name](series), STRENGTHS[name](series)
    with seeded(3):
        assert_array_equal(STRENGTHS[name](series), first)
    assert first.shape == series.shape
    assert length == 1 or (first != second).any()
    assert_allclose(first.mean(0), series.mean(0), atol=1.5)


def test_a_window_of_a_ramp_is_a_ramp_of_a_slope_between_its_share_and_one():
    ramp = np.arange(101.0)[:, None]
    slopes = []
    for _ in range(50):
        found = RandomSeries(window=0.6, scaling=0, jitter=0)(ramp)[:, 0]
        steps = np.diff(found)
        assert_allclose(steps, steps[0])
        assert found[0] >= 0
        assert found[-1] <= 100 + 1e-9
        slopes.append(steps[0])
    assert 0.6 <= min(slopes) < 0.7 < 0.9 < max(slopes) <= 1


def test_warping_has_a_share_of_the_steps_at_twice_or_half_the_speed_of_the_others():
    ramp = np.arange(101.0)[:, None]
    speeds = set()
    for _ in range(20):
        steps = np.diff(RandomSeries(window=1, scaling=0, jitter=0, warp=0.1)(ramp)[:, 0])
        usual = np.median(steps)
        assert np.isclose(steps, usual).sum() == 90
        odd = steps[~np.isclose(steps, usual)] / usual
        assert_allclose(odd, odd[0])
        speeds.add(round(float(odd[0]), 6))
        assert_allclose(steps.sum(), 100)
    assert speeds == {0.5, 2.0}


def test_scaling_and_noise_have_the_spread_that_they_are_given():
    series = np.sin(np.arange(300.0))[:, None] * [1.0, 20.0] + 100
    deviations = series - series.mean(0)
    scaling, noise = RandomSeries(1, 0.2, 0), RandomSeries(1, 0, 0.1)
    factors = [
        ((scaling(series) - series.mean(0)) * deviations).sum(0) / (deviations**2).sum(0)
        for _ in range(400)
    ]
    assert_allclose(np.mean(factors, 0), 1, atol=0.05)
    assert_allclose(np.std(factors, 0), 0.2, rtol=0.15)
    assert_allclose((noise(series) - series).std(0) / series.std(0), 0.1, rtol=0.2)


def test_training_rows_are_views_of_changed_series():
    X, y = waves(8, n_channels=2)
    features = RNNSequenceFeatures(**{**HOW, "append_stats": True}).fit(X)
    source = features.__tuning_source__()

    def later(series):
        return 2 * series[3:] + 1

    strategy = FineTune("all", augment=later)
    inputs, _ = source.tunable(X).inputs(("all",), strategy)
    expected, _ = source.tunable(list(map(later, X))).inputs(("all",), FineTune("all"))
    rows = np.array([5, 0, 7])
    for mine, theirs in zip(
        inputs.batch(rows, training=True), expected.batch(rows, training=False), strict=True
    ):
        assert_array_equal(mine, theirs)
    plain, _ = source.tunable(X).inputs(("all",), FineTune("all"))
    for mine, theirs in zip(
        inputs.batch(rows, training=False), plain.batch(rows, training=True), strict=True
    ):
        assert_array_equal(mine, theirs)
    assert len(y) == 8


@pytest.mark.parametrize("augment", ["light", "strong", noisy])
def test_two_fits_are_equal_and_no_generator_of_the_caller_moves(augment):
    X, y = waves(16)
    strategy = FineTune("all", epochs=1, augment=augment)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first = classifier(strategy=strategy).fit(X, y).predict_proba(X)
    assert random.getstate() == states[0]
    assert_array_equal(np.random.get_state()[1], states[1])
    assert_array_equal(torch.get_rng_state(), states[2])
    random.seed(5)
    assert_array_equal(classifier(strategy=strategy).fit(X, y).predict_proba(X), first)
    plain = classifier(strategy=FineTune("all", epochs=1)).fit(X, y).predict_proba(X)
    assert not np.array_equal(plain, first)


def test_a_channel_that_is_missing_stays_missing():
    sequences = together([np.ones((4, 2)), np.ones((3, 2))])
    sequences.missing[0, 1] = 1
    found = changed(sequences, lambda series: series + 1)
    assert_array_equal(found.one(0), np.tile([2.0, 0.0], (4, 1)))
    assert_array_equal(found.one(1), np.full((3, 2), 2.0))


def test_predictions_are_averaged_over_changed_series():
    X, y = waves(12)
    fitted = classifier(strategy=FineTune(1, epochs=1, augment=lambda s: 2 * s)).fit(X, y)
    plain = fitted.decision_function(X)
    doubled = fitted.decision_function([2 * series for series in X])
    fitted.set_params(test_time_augmentation=2)
    assert_allclose(fitted.decision_function(X), (plain + 2 * doubled) / 3, atol=1e-4)


def test_views_of_a_series_do_not_depend_on_the_others():
    X, y = waves(12)
    fitted = classifier(strategy="frozen", test_time_augmentation=2).fit(X, y)
    assert_allclose(fitted.predict_proba(X[3:5]), fitted.predict_proba(X)[3:5], atol=1e-5)
    assert_array_equal(fitted.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda s: torch.tensor(s), r"array \(length, channels\) .* real numbers, got Tensor"),
        (lambda s: s.astype(str), "of real numbers, got <U"),
        (lambda s: s[:, :0], r"2 channels and any length but 0, got shape \(\d+, 0\)"),
        (lambda s: s[:0], r"got shape \(0, 2\)"),
        (lambda s: s.T, r"got shape \(2, \d+\)"),
        (lambda s: s / 0, "without NaN or infinity, got"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_is_no_series_is_refused(augment, message):
    X, y = waves(8, n_channels=2)
    with pytest.raises(ValueError, match=message):
        classifier(strategy=FineTune(1, epochs=1, augment=augment)).fit(X, y)


def test_tokens_and_mirror_images_of_series_are_refused():
    X, y = waves(8)
    with pytest.raises(ValueError, match="'flip' changes images, .* set it to a number of views"):
        classifier(test_time_augmentation="flip").fit(X, y)
    tokens = RNNSequenceFeatures(vocabulary_size=3, hidden_size=4, random_state=0)
    X = [[0, 1, 2, 1]] * 8
    with pytest.raises(ValueError, match="X holds tokens or texts; set augment=None"):
        classifier(tokens, strategy=FineTune(1, augment="light")).fit(X, y)
    views = classifier(tokens, strategy="frozen", test_time_augmentation=1).fit(X, y)
    with pytest.raises(ValueError, match="test_time_augmentation=None"):
        views.predict(X)
