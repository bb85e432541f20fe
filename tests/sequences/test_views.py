"""Views against the same arithmetic done series by series."""

import numpy as np
import pytest
from scipy.stats import zscore

from sktransfer.sequences.reading import series_source
from sktransfer.sequences.views import Scale, show, statistics, statistics_names

RNG = np.random.RandomState(0)
SERIES = [RNG.normal(3, 2, (n, 2)) * [1, 100] for n in (7, 1, 30, 2)]


def sequences_of(series):
    source = series_source(series, channels_first=False, missing="interpolate", max_length=None)
    return source.read(range(len(source)))


ALL = sequences_of(SERIES)
SCALE = Scale.of([ALL])


def test_the_scale_is_that_of_all_steps_together():
    steps = np.concatenate(SERIES)
    np.testing.assert_allclose(SCALE.mean, steps.mean(0))
    np.testing.assert_allclose(SCALE.std, steps.std(0))
    differences = np.concatenate([np.diff(s, axis=0) if len(s) > 1 else s * 0 for s in SERIES])
    np.testing.assert_allclose(SCALE.difference_std, differences.std(0))


def expected(series, view):
    differences = np.diff(series, axis=0) if len(series) > 1 else series * 0
    values = differences if view in ("d", "dg") else series
    if view == "raw":
        return values
    if view == "g":
        return np.clip((values - SCALE.mean) / SCALE.std, -10, 10)
    if view == "dg":
        return np.clip(values / SCALE.difference_std, -10, 10)
    return zscore(values) if len(values) > 1 else values * 0


@pytest.mark.parametrize("view", ["raw", "z", "g", "d", "dg"])
def test_a_view_of_all_is_the_view_of_each(view):
    seen = show(ALL, view, SCALE)
    for index, series in enumerate(SERIES):
        np.testing.assert_allclose(seen.one(index), expected(series, view), atol=1e-9)


@pytest.mark.parametrize("view", ["z", "d"])
@pytest.mark.parametrize("value", [0.0, 1e9 + 0.1, -1e-9])
def test_a_constant_series_is_zero_in_normalised_views(view, value):
    series = sequences_of([np.full(50, value), np.full(2, value)])
    np.testing.assert_array_equal(show(series, view, Scale.of([series])).values, 0)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_units_make_no_difference(factor):
    series = sequences_of([s * factor for s in SERIES])
    scale = Scale.of([series])
    for view in ("z", "g", "d", "dg"):
        np.testing.assert_allclose(
            show(series, view, scale).values, show(ALL, view, SCALE).values, atol=1e-6
        )
    np.testing.assert_allclose(statistics(series, scale), statistics(ALL, SCALE), atol=1e-6)


def test_far_values_are_cut_off_at_ten_standard_deviations():
    far = sequences_of([np.array([[0.0, 1e6]])])
    assert show(far, "g", SCALE).values.max() == 10


def test_statistics_say_mean_spread_gaps_and_length():
    table = statistics(ALL, SCALE)
    assert table.shape == (4, len(statistics_names(2))) == (4, 7)
    for row, series in zip(table, SERIES, strict=True):
        np.testing.assert_allclose(row[:2], (series.mean(0) - SCALE.mean) / SCALE.std)
        np.testing.assert_allclose(row[2:4], np.log(series.std(0) / SCALE.std + 1e-3))
        np.testing.assert_allclose(row[4:], [0, 0, np.log(len(series))])
