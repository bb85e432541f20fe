"""Containers of columns, and the two of Hugging Face's datasets as that library documents them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa


class HubColumn(Sequence):
    """A column of a `HubDataset`: a sequence, which has no array."""

    def __init__(self, source, column_name):
        self.source, self.column_name = source, column_name

    def __len__(self):
        return len(self.source)

    def __getitem__(self, key):
        return self.source.columns_[self.column_name][key]


class HubDataset:
    """Rows as dicts by number, columns by name."""

    def __init__(self, columns):
        self.columns_ = columns

    @property
    def column_names(self):
        return list(self.columns_)

    @property
    def shape(self):
        return len(self), len(self.columns_)

    def __len__(self):
        return len(next(iter(self.columns_.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            return HubColumn(self, key)
        return {name: column[key] for name, column in self.columns_.items()}

    def __iter__(self):
        return (self[row] for row in range(len(self)))

    def to_list(self):
        return [*self]

    def to_pandas(self):
        return pd.DataFrame(self.columns_)


def objects(cells):
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array


def arrow(cells):
    """Lists keep the type of their numbers."""
    if isinstance(cells[0], str):
        return pa.array(cells)
    kind = pa.from_numpy_dtype(cells[0].dtype)
    for _ in range(cells[0].ndim):
        kind = pa.list_(kind)
    return pa.array([cell.tolist() for cell in cells], type=kind)


def pandas_around_arrow(cells):
    return pd.Series(pd.arrays.ArrowExtensionArray(arrow(cells)))


def categories(cells):
    """Of anything but texts, which can be no categories, a pandas array."""
    return pd.Categorical(cells) if isinstance(cells[0], str) else pd.array(objects(cells))


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "values of a dict": lambda cells: dict(enumerate(cells)).values(),
    "object array": objects,
    "object array of one column": lambda cells: objects(cells)[:, None],
    "pandas.Series": lambda cells: pd.Series(objects(cells), index=[*"cba"]),
    "pandas.DataFrame": lambda cells: pd.DataFrame({"only": objects(cells)}),
    "pandas.array": lambda cells: pd.array(objects(cells)),
    "pandas.Categorical": categories,
    "pandas around Arrow": pandas_around_arrow,
    "pandas frame around Arrow": lambda cells: pd.DataFrame({"only": pandas_around_arrow(cells)}),
    "polars.Series": lambda cells: pl.from_arrow(arrow(cells)),
    "polars.DataFrame": lambda cells: pl.DataFrame({"only": pl.from_arrow(arrow(cells))}),
    "pyarrow.Array": arrow,
    "pyarrow.ChunkedArray": lambda cells: pa.chunked_array([arrow(cells[:1]), arrow(cells[1:])]),
    "pyarrow.Table": lambda cells: pa.table({"only": arrow(cells)}),
    "pyarrow.RecordBatch": lambda cells: pa.RecordBatch.from_pydict({"only": arrow(cells)}),
    "list of Arrow scalars": lambda cells: list(arrow(cells)),
    "column of a dataset": lambda cells: HubDataset({"only": [*cells]})["only"],
    "dataset": lambda cells: HubDataset({"only": [*cells]}),
}
"""Makers of containers of three cells, by name."""

TABLES = {
    "pandas": pd.DataFrame,
    "polars": lambda columns: pl.DataFrame(
        {n: pl.from_arrow(arrow([*c])) for n, c in columns.items()}
    ),
    "pyarrow": lambda columns: pa.table({n: arrow([*c]) for n, c in columns.items()}),
    "dataset": HubDataset,
}
"""Makers of tables from a dict of columns."""
