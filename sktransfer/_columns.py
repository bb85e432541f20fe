"""Cells of images, texts and series, out of any container of columns.

A container is known by what it can do, so that pandas, polars, Arrow and Hugging Face's datasets
need not be installed. Nothing is written to any of them.
"""

import numbers
import re
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

Names = tuple[Any, ...]
"""Labels of the columns of a table."""

_N_SHOWN = 5

_LONGEST_MESSAGE = 500


class Column(NamedTuple):
    """A column of a table, and its label, or its position where columns have none."""

    name: Any
    cells: Any  # as the table holds it


def check_container(X: Any, what: str) -> None:
    """Refuse what is no container of rows, or has no order, or lies elsewhere.

    Parameters
    ----------
    X : Any
    what : str
        What a row of it should be, in the plural.

    Raises
    ------
    TypeError
        The message says what to pass instead.
    """
    if issparse(X):  # first, as some are dicts
        advice = "X.toarray(), since sparse input is not supported"
    elif isinstance(X, Mapping):
        advice = "one of its values, or all of them in order, as in list(X.values())"
    elif isinstance(X, Set):
        advice = "a list, whose rows have an order"
    elif hasattr(X, "collect") and hasattr(X, "collect_schema"):  # polars' LazyFrame
        advice = "X.collect()"
    elif isinstance(X, Iterator) or not _is_sized(X):
        advice = "list(X), since X is read more than once"
    else:
        return
    raise TypeError(f"X must be a sequence of {what}, got a {type(X).__name__}; pass {advice}")


@contextmanager
def errors_about(X: Any) -> Iterator[None]:
    """Name in an error about a row of X, such as "X[3]", the label that pandas has for it, too.

    In a cross-validation X is a part of the table, of whose rows only the labels are known. Long
    messages, in which values are shown, keep their beginning and their end with the cure.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (_shortened(_with_label(error.args[0], X)), *error.args[1:])
        raise


def _shortened(message: str) -> str:
    if len(message) <= _LONGEST_MESSAGE:
        return message
    return f"{message[: _LONGEST_MESSAGE // 2]} ... {message[5 - _LONGEST_MESSAGE // 2 :]}"


def _with_label(message: str, X: Any) -> str:
    index: Any = getattr(X, "index", None)
    is_default = getattr(index, "start", None) == 0 and getattr(index, "step", None) == 1
    # One that was called within another such block has named the row already.
    row = re.search(r"X\[(\d+)\](?! \(label)", message)
    if row is None or is_default or not hasattr(X, "iloc") or int(row[1]) >= len(index):
        return message
    return f"{message[: row.end()]} (label {index[int(row[1])]!r:.60}){message[row.end() :]}"


def column_names(X: Any) -> Names | None:
    """Labels of the columns of a frame, an Arrow table or a dataset; None if X is none of these."""
    names = getattr(X, "column_names", None)
    if names is None and len(getattr(X, "shape", ())) == 2:
        names = getattr(X, "columns", None)
    return None if names is None or callable(names) else tuple(names)


def columns_of(X: Any) -> list[Column] | None:
    """The columns of a table, or of an array of objects or strings; None if X is neither."""
    names = column_names(X)
    if names is not None:
        return [Column(name, _column_at(X, number, name)) for number, name in enumerate(names)]
    if isinstance(X, np.ndarray) and X.dtype.kind in "OSUT" and X.ndim == 2:
        return [Column(number, X[:, number]) for number in range(X.shape[1])]
    return None


def only_column(X: Any, what: str) -> Any:
    """The column of a table that has just one; anything but a table as it is.

    Raises
    ------
    ValueError
        The table has several columns, or none.
    """
    columns = columns_of(X)
    if columns is None:
        return X
    check_single(columns, what)
    return columns[0].cells


def check_single(columns: list[Column], what: str) -> None:
    """Refuse a table of several columns, or of none, where one is to hold what is expected.

    Raises
    ------
    ValueError
    """
    if len(columns) != 1:
        raise ValueError(_advice_for([column.name for column in columns], what))


def is_column(X: Any) -> bool:
    """Whether X holds a cell for each row that it gives out at no cost, unlike a dataset."""
    is_listable = any(hasattr(X, name) for name in ("to_pylist", "to_list", "tolist"))
    return is_listable and len(getattr(X, "shape", (0,))) == 1


def cells_of(column: Any) -> list[Any]:
    """The cells of a column or of a list, in order, as `plain_cell` makes them."""
    return [each if isinstance(each, str) else plain_cell(each) for each in raw_cells(column)]


def raw_cells(column: Any) -> list[Any]:
    """The cells of a column or of a list as they are, in order."""
    if hasattr(getattr(column, "dtype", None), "pyarrow_dtype"):  # pandas around Arrow
        column = getattr(column, "array", column).__arrow_array__()
    return list(column)


def columns_of_cells(X: Any) -> list[Column] | None:
    """The columns of a table that holds series or texts; None if it holds numbers, or is no table.

    Nothing is looked at where the types of the columns tell.
    """
    dtypes = [] if column_names(X) is None else list(getattr(X, "dtypes", ()))
    if dtypes and all(map(_is_numeric, dtypes)):
        return None
    columns = columns_of(X) or []
    return columns if any(_is_sequence(first_cell(column.cells)) for column in columns) else None


def plain_cell(cell: Any) -> Any:
    """A cell as what it stands for: an Arrow scalar as its value, a Series or frame as an array."""
    if isinstance(cell, np.ndarray):
        return None if cell is np.ma.masked else cell
    if hasattr(cell, "as_py"):
        return _value_of_scalar(cell)
    if hasattr(cell, "to_numpy") and hasattr(cell, "__len__"):  # of pandas, polars or Arrow
        return numbers_of(cell)
    return cell


def numbers_of(cell: Any) -> np.ndarray:
    """A list, a Series, a frame or an Arrow array as an array, of one dtype where it can have one.

    Missing numbers are NaN, and lists of equal length are the rows of a matrix.
    """
    values = np.asarray(cell)
    if values.dtype != object or values.size == 0:
        return values
    parts = values.ravel().tolist()
    if not any(isinstance(part, list | np.ndarray) or hasattr(part, "to_numpy") for part in parts):
        if all(isinstance(part, numbers.Real) or is_missing(part) for part in parts):
            filled = [np.nan if is_missing(part) else part for part in parts]
            return np.asarray(filled, dtype=np.float64).reshape(values.shape)
        return values
    rows = [numbers_of(part) for part in parts]
    if len({row.shape for row in rows}) > 1:
        return values
    return np.stack(rows).reshape(*values.shape, *rows[0].shape)


def is_missing(cell: Any) -> bool:
    """Whether a cell is None, NaN or one of the missing values of pandas."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):  # pandas.NA, NaT
        return True
    return isinstance(cell, numbers.Real) and bool(cell != cell)


def first_cell(column: Any) -> Any:
    """The first cell that is not missing; None if there is none."""
    return next((cell for cell in map(plain_cell, column) if not is_missing(cell)), None)


def matched(columns: Names, expected: Names) -> list[int] | None:
    """Positions of the columns in the order that is expected; None if they are in it.

    Parameters
    ----------
    columns, expected : tuple
        Labels of columns.

    Raises
    ------
    ValueError
        They have other labels, or the same twice. The message has no subject; the second argument
        tells the cure.
    """
    if columns == expected:
        return None
    if len(columns) != len(expected) or set(columns) != set(expected):
        raise ValueError(
            f"has the columns {_shown(columns)}, expected {_shown(expected)}",
            "Columns are matched by name: rename them, or pass arrays, as in frame.to_numpy(), if "
            "only their order counts",
        )
    if len(set(expected)) < len(expected):
        raise ValueError(
            f"has the columns {_shown(columns)}, some twice, in another order than "
            f"{_shown(expected)}",
            "Give each a name of its own",
        )
    return [columns.index(name) for name in expected]


def has_labels(names: Names) -> bool:
    """Whether columns have been given labels, which are not just their positions."""
    return names != tuple(range(len(names)))


def _advice_for(names: list[Any], what: str) -> str:
    if not names:
        return f"X is a table without columns; pass the column that holds the {what}"
    steps = ", ".join(f"({str(name)!r:.30}, features, {name!r:.30})" for name in names[:2])
    more = ", ..." if len(names) > 2 else ""
    return (
        f"X is a table of {len(names)} columns, {_shown(tuple(names))}; pass the one column that "
        f"holds the {what}, or give each a transformer: ColumnTransformer([{steps}{more}])"
    )


def _shown(names: Names) -> str:
    shown = ", ".join(f"{name!r:.30}" for name in names[:_N_SHOWN])
    return f"({shown}{', ...' if len(names) > _N_SHOWN else ''})"


def _is_numeric(dtype: Any) -> bool:
    is_numeric = getattr(dtype, "is_numeric", None)  # polars
    return is_numeric() if callable(is_numeric) else getattr(dtype, "kind", "O") in "biufc"


def _is_sequence(cell: Any) -> bool:
    return hasattr(cell, "__len__") and not isinstance(cell, Mapping)


def _column_at(X: Any, number: int, name: Any) -> Any:
    if hasattr(X, "iloc"):  # pandas, whose names may occur twice
        return X.iloc[:, number]
    if hasattr(X, "to_pydict"):  # Arrow
        return X.column(number)
    return X[name]


def _value_of_scalar(scalar: Any) -> Any:
    if not getattr(scalar, "is_valid", True):
        return None
    if hasattr(scalar, "to_numpy"):  # a tensor
        return scalar.to_numpy()
    values = getattr(scalar, "values", None)
    if hasattr(values, "to_pylist"):  # a list
        return _array_of_arrow(values)
    return scalar.as_py()


def _array_of_arrow(values: Any) -> np.ndarray:
    """An Arrow array with the dtype of its numbers, which Python's lists would lose."""
    parts = values.to_numpy(zero_copy_only=False)
    return numbers_of(parts) if parts.dtype == object else np.array(parts)


def _is_sized(X: Any) -> bool:
    """Whether X has a length, or is a single value, of which others tell what is wrong."""
    if not hasattr(X, "__iter__") or getattr(X, "ndim", 1) == 0:
        return True
    try:
        len(X)
    except TypeError:
        return False
    return True
