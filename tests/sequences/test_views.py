"""Views against the same arithmetic done series by series."""

import numpy as np
import pytest
from scipy.stats import zscore

from sktransfer.sequences.reading import series_source
from sktransfer.sequences.views import (
    Scale,
    View,
    learn_scales,
    show,
    statistics,
    statistics_names,
    usual_views,
)

RNG = np.random.RandomState(0)
SERIES = [RNG.normal(3, 2, (n, 2)) * [1, 100] for n in (7, 1, 30, 2)]


def sequences_of(series):
    source = series_source(series, channels="last", missing="interpolate", max_length=None)
    return source.read(range(len(source)))


ALL = sequences_of(SERIES)
SCALE = Scale.of(ALL)
VIEWS = [View(kind, factor) for kind in ("raw", "z", "g", "d", "dg") for factor in (1, 4)]
SCALES = learn_scales(ALL, VIEWS)


def test_the_scale_is_that_of_all_steps_together():
    steps = np.concatenate(SERIES)
    np.testing.assert_allclose(SCALE.mean, steps.mean(0))
    np.testing.assert_allclose(SCALE.std, steps.std(0))
    differences = np.concatenate([np.diff(s, axis=0) if len(s) > 1 else s * 0 for s in SERIES])
    np.testing.assert_allclose(SCALE.difference_std, differences.std(0))


def expected(series, view):
    kind, factor = view
    scale = SCALES[factor]
    series = np.array(
        [part.mean(0) for part in np.split(series, range(factor, len(series), factor))]
    )
    differences = np.diff(series, axis=0) if len(series) > 1 else series * 0
    values = differences if kind in ("d", "dg") else series
    if kind == "raw":
        return values
    if kind == "g":
        return np.clip((values - scale.mean) / scale.std, -10, 10)
    if kind == "dg":
        return np.clip(values / scale.difference_std, -10, 10)
    return zscore(values) if len(values) > 1 else values * 0


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_a_view_of_all_is_the_view_of_each(view):
    seen = show(ALL, view, SCALES)
    for index, series in enumerate(SERIES):
        np.testing.assert_allclose(seen.one(index), expected(series, view), atol=1e-9)


def test_the_scale_of_coarse_steps_is_learned_from_coarse_steps():
    coarse = [np.array([s[i : i + 4].mean(0) for i in range(0, len(s), 4)]) for s in SERIES]
    np.testing.assert_allclose(SCALES[4].std, np.concatenate(coarse).std(0))


def test_names_of_views_say_kind_and_coarseness():
    assert [str(View.named(name)) for name in ("z", "dg16", "raw4", "g1")] == [
        "z",
        "dg16",
        "raw4",
        "g",
    ]
    assert [View.named(name) for name in ("q", "z0", "z-4", "zz", "4", "dg 4")] == [None] * 6


def test_long_series_are_also_seen_in_coarse_steps():
    for length, factors in ((127, [1]), (128, [1, 4]), (512, [1, 4, 16]), (9999, [1, 4, 16, 64])):
        views = usual_views([1, length, 100_000])  # by the median
        assert sorted({view.factor for view in views}) == factors
        assert len(views) == 4 * len(factors)


@pytest.mark.parametrize("view", ["z", "d"])
@pytest.mark.parametrize("value", [0.0, 1e9 + 0.1, -1e-9])
def test_a_constant_series_is_zero_in_normalised_views(view, value):
    series = sequences_of([np.full(50, value), np.full(2, value)])
    scales = learn_scales(series, [])
    np.testing.assert_array_equal(show(series, View(view), scales).values, 0)


def test_differences_of_a_ramp_are_zero_whatever_its_level():
    ramps = sequences_of([0.1 * np.arange(200), 0.1 * np.arange(200) + 1000])
    scales = learn_scales(ramps, [])
    np.testing.assert_array_equal(show(ramps, View("d"), scales).values, 0)


@pytest.mark.parametrize("factor", [1e-100, 1e-12, 1e12])
def test_units_make_no_difference(factor):
    series = sequences_of([s * factor for s in SERIES])
    scales = learn_scales(series, VIEWS)
    for view in VIEWS:
        seen = show(series, view, scales).values / (factor if view.kind == "raw" else 1)
        np.testing.assert_allclose(seen, show(ALL, view, SCALES).values, atol=1e-6)
    np.testing.assert_allclose(statistics(series, scales[1]), statistics(ALL, SCALE), atol=1e-6)


def test_far_values_are_cut_off_at_ten_standard_deviations():
    far = sequences_of([np.array([[0.0, 1e6]])])
    assert show(far, View("g"), SCALES).values.max() == 10


def test_statistics_say_mean_spread_gaps_and_length():
    table = statistics(ALL, SCALE)
    assert table.shape == (4, len(statistics_names(2))) == (4, 7)
    for row, series in zip(table, SERIES, strict=True):
        np.testing.assert_allclose(row[:2], (series.mean(0) - SCALE.mean) / SCALE.std)
        np.testing.assert_allclose(row[2:4], np.log(series.std(0) / SCALE.std + 1e-3))
        np.testing.assert_allclose(row[4:], [0, 0, np.log(len(series))])
