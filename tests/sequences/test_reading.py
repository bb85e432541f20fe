"""X in its accepted forms, missing values, and what is refused."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from sktransfer.sequences.reading import (
    check_index,
    is_table,
    is_text,
    series_source,
    text_source,
    token_source,
)

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


PANEL = pd.DataFrame(
    np.arange(18.0).reshape(9, 2),
    index=pd.MultiIndex.from_product([[*"abc"], range(3)], names=["case", "time"]),
    columns=["x", "y"],
)
CASES = [case.droplevel(0) for _, case in PANEL.groupby(level=0)]


@pytest.mark.parametrize(
    "turned",
    [
        lambda case: case[["y", "x"]],
        lambda case: pl.DataFrame({"y": case["y"].to_list(), "x": case["x"].to_list()}),
        lambda case: pa.table({"y": case["y"].to_list(), "x": case["x"].to_list()}),
        lambda case: case[["y", "x"]].astype("Int64"),
    ],
    ids=["pandas", "polars", "pyarrow", "pandas.NA"],
)
def test_columns_of_frames_are_matched_by_name(turned):
    expected = PANEL.to_numpy()
    for X in ([CASES[0], *map(turned, CASES[1:])], pd.Series([CASES[0], *map(turned, CASES[1:])])):
        source = series_source(X, **HOW)
        np.testing.assert_array_equal(source.read(range(3)).values, expected)
        assert source.names == ("x", "y")
    source = series_source([turned(case) for case in CASES], **HOW, names=("x", "y"))
    np.testing.assert_array_equal(source.read(range(3)).values, expected)


def test_columns_that_have_no_names_are_taken_by_position():
    cases = [pd.DataFrame(case.to_numpy()) for case in CASES]
    source = series_source([*cases, np.ones((2, 2))], **HOW)
    assert source.names is None
    np.testing.assert_array_equal(source.read(range(3)).values, PANEL.to_numpy())
    # Columns are time steps here, of which series have their own.
    turned = [pd.DataFrame([[1.0, 2.0]], columns=["t0", "t1"]), pd.DataFrame({"t5": [3.0]})]
    assert series_source(turned, **{**HOW, "channels": "first"}).read([0, 1]).lengths.tolist() == [
        2,
        1,
    ]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            [CASES[0], CASES[1].rename(columns={"y": "z"})],
            r"X\[1\] has the columns \('x', 'z'\)",
        ),
        ([CASES[0], CASES[1][["x"]]], r"X\[1\] has the columns \('x'\), expected \('x', 'y'\)"),
        ([CASES[0], CASES[1].to_numpy()], r"X\[1\] has columns without names, and others have"),
        (
            [case.set_axis(["x", "x"], axis=1) for case in CASES[:1]]
            + [pd.DataFrame(np.ones((2, 3)), columns=["x", "x", "y"])],
            r"X\[1\] has the columns",
        ),
    ],
)
def test_frames_of_other_columns_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        series_source(X, **HOW)


def test_cells_of_several_columns_are_channels():
    nested = pd.DataFrame({name: [case[name] for case in CASES] for name in ("x", "y")})
    source = series_source(nested, **HOW)
    np.testing.assert_array_equal(source.read(range(3)).values, PANEL.to_numpy())
    first = series_source(nested, **{**HOW, "channels": "first"})
    np.testing.assert_array_equal(first.read(range(3)).values, PANEL.to_numpy())
    array = series_source(nested.to_numpy(), **HOW)
    np.testing.assert_array_equal(array.read(range(3)).values, PANEL.to_numpy())


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            [np.ones(3), np.ones(4)],
            r"X\[1\] has unequal numbers .*3 in 'x', 4 in 'y'",
        ),
        (
            [np.ones(3), None],
            r"X\[1\] must hold a series .* in the column 'y'.*nothing",
        ),
        ([1.0, 2.0], r"X\[0\] must hold a series .* in the column 'y'.* got 1.0"),
        (["a", "b"], r"X\[0\] must hold a series .* in the column 'y'.* got 'a'"),
    ],
)
def test_cells_that_are_no_channels_are_refused_by_row_and_column(y, message):
    with pytest.raises(ValueError, match=message):
        series_source(pd.DataFrame({"x": [np.ones(3)] * 2, "y": y}), **HOW)


def test_a_panel_is_refused_with_the_line_that_makes_series_of_it():
    for X in (PANEL, PANEL["x"]):
        with pytest.raises(ValueError, match="9 rows under an index of 2 levels") as caught:
            check_index(X)
        assert "X.reset_index(drop=True)" in str(caught.value)
        line = re.search(r"pass (\[.*?\.groupby\(.*?\)\])", str(caught.value)).group(1)
        source = series_source(eval(line, {"X": X}), **HOW)
        expected = PANEL.to_numpy()[:, : source.n_channels]
        np.testing.assert_array_equal(source.read(range(3)).values, expected)
    deep = pd.concat({"left": PANEL, "right": PANEL})
    with pytest.raises(ValueError, match=r"groupby\(level=\[0, 1\], sort=False\)"):
        check_index(deep)
    nested = pd.Series([np.ones(3)] * 9, index=PANEL.index)
    check_index(nested)
    check_index(pd.DataFrame({"a": nested}))
    assert is_text(pd.Series(["a"] * 9, index=PANEL.index))


def test_tokens_come_in_columns_too():
    tokens = [np.array([0, 3, 2]), np.array([1, 1])]
    for X in (
        pd.DataFrame({"a": tokens}),
        pl.DataFrame({"a": [each.tolist() for each in tokens]}),
        pa.table({"a": [each.tolist() for each in tokens]}),
        pa.array([each.tolist() for each in tokens]),
    ):
        found = token_source(X, 4, None).read([0, 1])
        assert found.values[:, 0].tolist() == [0, 3, 2, 1, 1]
    table = pl.DataFrame({"a": [0, 1], "b": [2, 3]})
    assert token_source(table, 4, None).read([0, 1]).values[:, 0].tolist() == [0, 2, 1, 3]
    with pytest.raises(ValueError, match="pass the one column that holds the tokens"):
        token_source(pd.DataFrame({"a": tokens, "b": tokens}), 4, None)


def test_arrow_and_columns_of_categories_are_texts():
    for X in (pa.array(["a"]), pa.table({"t": [None, "a"]}), pd.Categorical(["a"])):
        assert is_text(X)
    assert not is_text(pa.array([[1.0]]))
    with pytest.raises(ValueError, match="the one column that holds the texts"):
        series_source(pd.DataFrame({"a": ["x"], "b": ["y"]}), **HOW)
