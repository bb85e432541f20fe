"""Cells of any container of columns, without a network."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse

from sktransfer._columns import (
    cells_of,
    check_container,
    columns_of_cells,
    errors_about,
    is_missing,
    matched,
    numbers_of,
    only_column,
)
from tests.helpers.containers import CONTAINERS, arrow


@pytest.mark.parametrize("container", CONTAINERS)
def test_cells_keep_their_numbers_and_unequal_shapes(container):
    cells = [np.full((n, 3), n, dtype=np.uint8) for n in (2, 1, 3)]
    found = cells_of(only_column(CONTAINERS[container](cells), "images"))
    for one, expected in zip(found, cells, strict=True):
        np.testing.assert_array_equal(one, expected)
        assert one.dtype == np.uint8


def test_numbers_become_arrays_of_one_dtype_with_nan_for_what_is_missing():
    for cell in (
        [1, None, 3],
        pd.Series([1, pd.NA, 3], dtype="Int64"),
        pl.Series([1, None, 3]),
        np.array([1, None, 3], dtype=object),
    ):
        found = numbers_of(cell)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, [1, np.nan, 3])
    assert numbers_of([[1, 2], [3, 4]]).shape == (2, 2)
    assert numbers_of(["a", "b"]).dtype.kind == "U"
    ragged = np.empty(2, dtype=object)
    ragged[:] = [np.ones(1), np.ones(2)]
    assert numbers_of(ragged).dtype == object


def test_a_missing_list_of_arrow_is_none_and_a_tensor_is_an_array():
    assert cells_of(pa.array([[1.0], None]))[1] is None
    tensors = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = cells_of(pa.FixedShapeTensorArray.from_numpy_ndarray(tensors))
    np.testing.assert_array_equal(found, tensors)


def test_tables_of_numbers_hold_no_cells_and_mixed_ones_do():
    numbers = {"a": [1.0, 2.0], "b": [3, 4]}
    for table in (pd.DataFrame(numbers), pl.DataFrame(numbers), pa.table(numbers), np.ones((2, 2))):
        assert columns_of_cells(table) is None
    mixed = pa.table({"a": [1.0, 2.0], "b": [[1.0], [2.0]]})
    assert [column.name for column in columns_of_cells(mixed)] == ["a", "b"]
    late = pd.DataFrame({"a": [None, np.ones(2)]})
    assert len(columns_of_cells(late)) == 1


def test_missing_is_what_pandas_and_numpy_say():
    assert all(map(is_missing, [None, np.nan, np.float32("nan"), pd.NA, pd.NaT]))
    assert not any(map(is_missing, [0, "", "nan", np.array([np.nan]), pd.Series([np.nan])]))


def test_columns_are_matched_by_name_and_never_by_position():
    assert matched(("a", "b"), ("a", "b")) is None
    assert matched(("b", "a"), ("a", "b")) == [1, 0]
    assert matched(("a", "a"), ("a", "a")) is None
    with pytest.raises(ValueError, match=r"has the columns \('a', 'c'\), expected"):
        matched(("a", "c"), ("a", "b"))
    with pytest.raises(ValueError, match="some twice"):
        matched(("a", "b", "a"), ("a", "a", "b"))


def test_advice_is_short_whatever_columns_are_called():
    X = pd.DataFrame({name * 900: ["t"] for name in "abcdefgh"})
    with pytest.raises(ValueError, match="table of 8 columns") as caught:
        only_column(X, "texts")
    assert len(str(caught.value)) < 500
    with pytest.raises(ValueError, match="table without columns"):
        only_column(pd.DataFrame(index=[0]), "texts")


@pytest.mark.parametrize("kind", ["csr", "dok", "coo"])
def test_sparse_input_is_named_as_that(kind):
    with pytest.raises(TypeError, match=r"pass X.toarray\(\), since sparse input"):
        check_container(scipy.sparse.eye(3, format=kind), "series")


def test_what_has_a_length_and_an_order_passes():
    for X in (
        [1],
        (1,),
        pd.Series([1]),
        pl.Series([1]),
        arrow(["a"]),
        {1: 2}.values(),
        np.array(1),
    ):
        check_container(X, "series")


def test_neither_pandas_nor_polars_nor_arrow_is_imported():
    code = (
        "import sys, sktransfer._columns; print({'pandas', 'polars', 'pyarrow'} & {*sys.modules})"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout == "set()\n"


def test_a_long_message_keeps_what_is_wrong_and_what_to_do():
    def fail(message):
        with errors_about([1]):
            raise ValueError(message)

    with pytest.raises(ValueError, match=r"^X\[0\] is .* \.\.\. .*; leave it out$") as caught:
        fail(f"X[0] is {list(range(999))}; leave it out")
    assert len(str(caught.value)) == 500
    with pytest.raises(ValueError, match=r"^X\[0\] is 1; leave it out$"):
        fail("X[0] is 1; leave it out")
