"""X in its accepted forms, missing values, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from sktransfer.sequences.reading import is_table, is_text, series_source, text_source, token_source

HOW = {"channels": "last", "missing": "interpolate", "max_length": None}


def read(X, **how):
    source = series_source(X, **{**HOW, **how})
    return source.read(range(len(source)))


RAGGED = [np.arange(3.0), np.arange(5.0), np.arange(1.0)]


def test_sequences_lie_end_to_end_and_are_found_again():
    sequences = read(RAGGED)
    np.testing.assert_array_equal(sequences.lengths, [3, 5, 1])
    np.testing.assert_array_equal(sequences.starts, [0, 3, 8])
    for index, series in enumerate(RAGGED):
        np.testing.assert_array_equal(sequences.one(index)[:, 0], series)
    np.testing.assert_array_equal(sequences.take(np.array([2, 0])).one(1)[:, 0], RAGGED[0])


@pytest.mark.parametrize(
    "X",
    [
        np.arange(12).reshape(2, 6),
        np.arange(12, dtype=np.float32).reshape(2, 6, 1),
        torch.arange(12).reshape(2, 6),
        [list(range(6)), list(range(6, 12))],
        (np.arange(6, dtype=np.int8), torch.arange(6.0, 12.0)),
        np.arange(12).reshape(2, 6).astype(object),
        pd.Series([np.arange(6), np.arange(6, 12)]),
        pd.DataFrame({"series": [np.arange(6), np.arange(6, 12)]}),
    ],
    ids=["array", "3-D", "tensor", "lists", "tuple of mixed dtypes", "object", "Series", "column"],
)
def test_all_forms_of_the_same_series_read_alike(X):
    sequences = read(X)
    np.testing.assert_array_equal(sequences.values[:, 0], np.arange(12))
    np.testing.assert_array_equal(sequences.lengths, [6, 6])
    assert sequences.values.dtype == np.float64


def test_channels_first_is_the_transpose():
    X = np.random.RandomState(0).normal(size=(4, 3, 10))
    first = read(X, channels="first")
    np.testing.assert_array_equal(first.values, read(X.transpose(0, 2, 1)).values)
    np.testing.assert_array_equal(first.values, read(list(X), channels="first").values)


def test_nan_at_the_end_is_padding_and_inside_is_interpolated_and_counted():
    nan = np.nan
    X = np.array([[1, nan, 3, nan, nan], [nan, 2, 2, 5, 5], [0, 1, 2, 3, 4]])
    sequences = read(X)
    np.testing.assert_array_equal(sequences.lengths, [3, 5, 5])
    np.testing.assert_array_equal(sequences.one(0)[:, 0], [1, 2, 3])
    np.testing.assert_array_equal(sequences.one(1)[:, 0], [2, 2, 2, 5, 5])  # held at the edge
    np.testing.assert_allclose(sequences.missing[:, 0], [1 / 3, 1 / 5, 0])


def test_only_steps_that_all_channels_lack_are_padding():
    series = np.array([[1.0, 1], [2, np.nan], [np.nan, np.nan]])
    sequences = read([series])
    np.testing.assert_array_equal(sequences.values, [[1, 1], [2, 1]])
    np.testing.assert_array_equal(sequences.missing, [[0, 0.5]])


def test_series_and_channels_of_nan_alone_become_zeros():
    X = np.full((2, 4, 2), np.nan)
    X[1, :, 0] = 3
    sequences = read(X)
    np.testing.assert_array_equal(sequences.one(0), np.zeros((4, 2)))
    np.testing.assert_array_equal(sequences.one(1), [[3, 0]] * 4)
    np.testing.assert_array_equal(sequences.missing, [[1, 1], [0, 1]])


def test_missing_error_names_the_place_and_the_way_out():
    X = np.ones((2, 4))
    X[1, 2] = np.nan
    with pytest.raises(
        ValueError, match=r"X\[1\] contains NaN at time step 2, channel 0.*missing='interpolate'"
    ):
        read(X, missing="error")
    X[1, 2:] = np.nan  # padding is no gap
    np.testing.assert_array_equal(read(X, missing="error").lengths, [4, 2])


def test_max_length_cuts_the_end_off():
    np.testing.assert_array_equal(read(RAGGED, max_length=2).lengths, [2, 2, 1])


def test_nothing_of_the_callers_is_written_to():
    X = np.array([[1, np.nan, 3]])
    X.setflags(write=False)
    assert np.isfinite(read(X).values).all()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "0 sample"),
        (np.empty((0, 5)), "0 sample"),
        ([np.ones(3), np.ones(0)], r"X\[1\] is empty"),
        (np.empty((2, 0)), r"X\[0\] is empty"),
        ([np.ones((3, 2)), np.ones((3, 4))], r"X\[1\] has 4 channels and others have 2"),
        (np.ones(5), r"shape \(5,\).*reshape\(1, -1\)"),
        (np.ones((2, 3, 4, 5)), r"shape \(2, 3, 4, 5\)"),
        ([np.ones((2, 3, 4))], r"X\[0\] has shape \(2, 3, 4\)"),
        (np.array([[1, np.inf]]), r"X\[0\] contains infinity at time step 1, channel 0.*NaN"),
        ([np.ones(2), np.array([0, -np.inf])], r"X\[1\] contains infinity at time step 1"),
        (np.array([[1e200, 1]]), "1e.200, which float32 cannot hold"),
        (np.ones((2, 3), dtype=complex), "complex128"),
        ([np.array(["a", "b"])], r"X\[0\] must hold real numbers"),
        ([np.ones(2), [1, "x"]], r"X\[1\] must hold real numbers"),
        ([{"a": 1}], r"X\[0\] must hold real numbers"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(X, message):
    with pytest.raises(ValueError, match=message):
        read(X)


def test_what_has_no_items_is_a_type_error():
    with pytest.raises(TypeError, match="got int"):
        read(3)


def test_tokens_are_checked_one_by_one():
    source = token_source([[0, 3, 2], np.array([1], dtype=np.uint8)], 4, None)
    np.testing.assert_array_equal(source.read([0, 1]).values[:, 0], [0, 3, 2, 1])
    with pytest.raises(ValueError, match=r"X\[1\] holds the token 4.*vocabulary_size=4"):
        token_source([[0], [4]], 4, None)
    with pytest.raises(ValueError, match=r"X\[0\] holds the token -1"):
        token_source([[-1]], 4, None)
    with pytest.raises(ValueError, match="integer tokens.*float64"):
        token_source([[0.5]], 4, None)
    with pytest.raises(ValueError, match=r"X\[1\] is empty"):
        token_source([[1], []], 4, None)


def test_texts_are_their_utf8_bytes():
    source = text_source(["aé", "b"], None)
    np.testing.assert_array_equal(source.read([0, 1]).values[:, 0], [97, 195, 169, 98])
    with pytest.raises(TypeError, match=r"X\[1\] must be a str"):
        text_source(["a", 3], None)
    with pytest.raises(ValueError, match=r"X\[1\] is an empty text"):
        text_source(["a", ""], None)


def test_text_is_told_from_tables_and_series():
    texts = [["a"], np.array(["a"]), np.array(["a"], dtype=object), pd.Series(["a"])]
    assert all(is_text(X) for X in [*texts, pd.DataFrame({"text": ["a"]})])
    others = [np.ones((2, 3)), [[1.0]], pd.DataFrame({"a": [1.0]}), [], np.ones((2, 3, 1))]
    assert not any(is_text(X) for X in others)
    assert is_table(pd.DataFrame({"a": [1.0]}))
    assert not is_table(pd.DataFrame({"a": [np.ones(3)]}))
    with pytest.raises(TypeError, match=r"pass \[text\]"):
        is_text("a single text")
