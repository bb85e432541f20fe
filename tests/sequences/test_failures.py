"""Rows that hold no usable sequence: an error, or left out with the reason."""

import re

import numpy as np
import pandas as pd
import pytest

from sktransfer.sequences.failures import FailedSequence, is_missing
from sktransfer.sequences.reading import (
    is_text,
    series_source,
    text_source,
    token_source,
)

HOW = {"channels": "last", "missing": "interpolate", "max_length": None}
GOOD = np.arange(3.0)


def read(X):
    """All series of X, where the first unusable one is an error."""
    source = series_source(X, **HOW)
    return source.read(range(len(source)))


@pytest.mark.parametrize(
    "value", [None, np.nan, float("nan"), np.float32("nan"), pd.NA, pd.NaT], ids=repr
)
def test_none_nan_and_pandas_missing_values_are_missing(value):
    assert is_missing(value)
    source = series_source([GOOD, value], **HOW, on_error="nan")
    assert source.failed == [FailedSequence(1, "it is missing")]
    with pytest.raises(ValueError, match=r"X\[1\] is missing.*set on_error='nan'"):
        series_source([GOOD, value], **HOW)


@pytest.mark.parametrize("value", [0, 0.0, "", "nan", [], [None], np.full(2, np.nan), np.inf])
def test_nothing_else_is_missing(value):
    assert not is_missing(value)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([], "it is empty"),
        (np.empty((0, 1)), "it is empty"),
        (3.0, "it has shape ()"),
        ("text", "it must hold real numbers"),
        ([1, "x"], "it must hold real numbers"),
        (np.ones(3, dtype=complex), "it must hold real numbers"),
        (np.ones((3, 2)), "it has 2 channels and others have 1"),
        ([0, np.inf], "it contains infinity at time step 1, channel 0"),
        ([0, 1e200], "it contains 1e+200, which float32 cannot hold"),
    ],
    ids=repr,
)
def test_every_unusable_series_is_left_out_with_its_reason(item, message):
    source = series_source([GOOD, item, GOOD + 1], **HOW, on_error="nan")
    assert [failure.index for failure in source.failed] == [1]
    assert source.failed[0].message.startswith(message)
    assert (list(source.rows), source.n_rows) == ([0, 2], 3)
    np.testing.assert_array_equal(source.read([0, 1]).values[:, 0], [0, 1, 2, 1, 2, 3])
    with pytest.raises(ValueError, match=rf"X\[1\] {re.escape(message.removeprefix('it '))}"):
        read([GOOD, item, GOOD + 1])


def test_gaps_are_failures_where_they_are_errors():
    X = np.array([[0.0, 1, 2], [0, np.nan, 2], [0, 1, np.nan]])
    how = HOW | {"missing": "error"}
    source = series_source(X, **how, on_error="nan")
    assert source.failed == [FailedSequence(1, "it contains NaN at time step 1, channel 0")]
    np.testing.assert_array_equal(source.read([0, 1]).lengths, [3, 2])
    assert not series_source(X, **HOW, on_error="nan").failed


def test_what_lies_beyond_the_length_that_is_read_is_no_failure():
    how = HOW | {"max_length": 2}
    assert not series_source([[0, 1, np.inf], [0, 1]], **how, on_error="nan").failed


def test_the_first_usable_series_says_how_many_channels_there_are():
    series = [None, np.ones((4, 2)), np.ones(4)]
    source = series_source(series, **HOW, on_error="nan")
    assert source.n_channels == 2
    assert [failure.index for failure in source.failed] == [0, 2]
    fitted = series_source(series, **HOW, on_error="nan", n_channels=1)
    assert [failure.index for failure in fitted.failed] == [0, 1]


def test_tokens_and_texts_have_failures_of_their_own():
    tokens = token_source([[0, 1], None, [], [9], [0.5]], 4, None, "nan")
    assert [failure.message.split(",")[0] for failure in tokens.failed] == [
        "it is missing",
        "it is empty (0 tokens)",
        "it holds the token 9",
        "it must be a 1-D array of integer tokens",
    ]
    texts = text_source([None, "ab", "", 3, "\ud800"], None, "nan")
    assert [failure.message for failure in texts.failed] == [
        "it is missing",
        "it is an empty text",
        "it must be a str as others are, got int",
        "it cannot be written as UTF-8 (surrogates not allowed)",
    ]
    np.testing.assert_array_equal(texts.read([0]).values[:, 0], [97, 98])


@pytest.mark.parametrize("first", [None, np.nan, pd.NA])
def test_a_missing_first_row_does_not_hide_what_x_holds(first):
    assert is_text([first, "a"])
    assert is_text(pd.DataFrame({"text": [first, "a"]}, dtype=object))
    assert not is_text([first, GOOD])
    column = pd.DataFrame({"series": [first, GOOD]})
    assert len(series_source(column, **HOW, on_error="nan")) == 1


def test_x_of_missing_rows_alone_has_no_usable_one():
    source = series_source([None, np.nan], **HOW, on_error="nan")
    assert (len(source), source.n_rows) == (0, 2)


def test_masked_tokens_are_no_tokens():
    tokens = [np.ma.array([1, 2, 3], mask=[0, 1, 0]), np.array([3, 1, 1])]
    with pytest.raises(ValueError, match=r"X\[0\] has masked tokens"):
        token_source(tokens, 5, None)
    assert [failure.index for failure in token_source(tokens, 5, None, "nan").failed] == [0]
