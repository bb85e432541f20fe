"""One reader of columns for images, texts and series: every container with every modality."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer

from sktransfer import PretrainedCNNFeatures, PretrainedTextFeatures, RNNSequenceFeatures
from tests.helpers.containers import CONTAINERS, TABLES, HubDataset, objects
from tests.helpers.languages import write_language
from tests.helpers.networks import SmallCNN

random = np.random.RandomState(0)
SERIES = [random.normal(size=n) for n in (9, 7, 8)]
CHANNELS = [random.normal(size=(n, 2)) for n in (9, 7, 8)]
TEXTS = ["the team won", "bread", "a goal"]
PIXELS = [random.randint(0, 256, (6, 5, 3)).astype(np.uint8) for _ in range(3)]
TABLE = random.normal(size=(3, 4))


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    names = [str(folder / f"{number}.png") for number in range(3)]
    for name, pixels in zip(names, PIXELS, strict=True):
        Image.fromarray(pixels).save(name)
    return names


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return write_language(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def modalities(paths, language):
    """Samples as a list, and a transformer for them."""
    images = PretrainedCNNFeatures(SmallCNN, image_size=8, random_state=0, engine="torch")
    texts = PretrainedTextFeatures(language, engine="torch")
    series = RNNSequenceFeatures("gru", weights="random", hidden_size=3, random_state=0)
    return {
        "paths": (paths, images),
        "pixels": (PIXELS, images),
        "texts": (TEXTS, texts),
        "series": (SERIES, series),
        "series of channels": (CHANNELS, series),
        "texts as bytes": (TEXTS, series),
    }


MODALITIES = ["paths", "pixels", "texts", "series", "series of channels", "texts as bytes"]


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_holds_every_modality(container, modality, modalities):
    cells, transformer = modalities[modality]
    expected = transformer.fit_transform(list(cells))
    X = CONTAINERS[container](cells)
    assert_array_equal(transformer.transform(X), expected)
    assert_array_equal(transformer.fit_transform(X), expected)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda cells: dict(enumerate(cells)), r"list\(X.values\(\)\)"),
        (lambda cells: {"a", "b"}, "a list, whose rows have an order"),
        (iter, r"list\(X\), since X is read more than once"),
        (lambda cells: pl.LazyFrame({"a": [1]}), r"X.collect\(\)"),
    ],
    ids=["dict", "set", "iterator", "LazyFrame"],
)
def test_what_has_no_rows_in_order_in_memory_is_refused_with_advice(
    make, advice, modality, modalities
):
    cells, transformer = modalities[modality]
    with pytest.raises(TypeError, match=f"X must be a sequence of .*; pass .*{advice}"):
        transformer.fit(make(cells))


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("modality", ["paths", "pixels", "texts", "texts as bytes"])
def test_several_columns_alone_are_refused_with_the_line_that_takes_them(
    kind, modality, modalities
):
    cells, transformer = modalities[modality]
    X = TABLES[kind]({"front": objects(cells), "back": objects(cells)})
    line = r"ColumnTransformer\(\[\('front', features, 'front'\), \('back', features, 'back'\)\]\)"
    with pytest.raises(ValueError, match=rf"2 columns, \('front', 'back'\); .*{line}") as caught:
        transformer.fit(X)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_two_columns_of_images_go_through_a_column_transformer(frame, paths, modalities):
    images = modalities["paths"][1]
    both = ColumnTransformer([("one", images, "front"), ("list", images, ["back"])])
    found = both.fit_transform(frame({"front": paths, "back": paths[::-1]}))
    expected = images.fit_transform(paths)
    assert_array_equal(found, np.hstack([expected, expected[::-1]]))


@pytest.mark.parametrize("kind", TABLES)
def test_two_columns_of_series_are_two_channels_whatever_their_order(kind, modalities):
    series = modalities["series"][1]
    expected = series.fit_transform(CHANNELS)
    x, y = (objects([each[:, channel] for each in CHANNELS]) for channel in (0, 1))
    assert_array_equal(series.fit_transform(TABLES[kind]({"x": x, "y": y})), expected)
    assert_array_equal(series.transform(TABLES[kind]({"y": y, "x": x})), expected)
    with pytest.raises(ValueError, match=r"columns \('z', 'y'\), expected \('x', 'y'\)"):
        series.transform(TABLES[kind]({"z": x, "y": y}))
    with pytest.warns(UserWarning, match=r"channels named \('x', 'y'\); they are taken in this"):
        assert_array_equal(series.transform(CHANNELS), expected)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame(TABLE, columns=[*"abcd"]),
        pl.DataFrame(TABLE, schema=[*"abcd"]),
        pa.table(dict(zip("abcd", TABLE.T, strict=True))),
        HubDataset(dict(zip("abcd", TABLE.T.tolist(), strict=True))),
        pd.DataFrame(TABLE, columns=[*"abcd"]).astype("Float64"),
        TABLE.astype(object),
    ],
    ids=["pandas", "polars", "pyarrow", "dataset", "pandas.NA", "object array"],
)
def test_a_table_of_numbers_has_a_series_or_an_image_in_each_row(table, modalities):
    series = modalities["series"][1]
    expected = series.fit_transform(TABLE)
    assert_array_equal(series.fit_transform(table), expected)
    how = {"image_size": 8, "random_state": 0, "engine": "torch", "value_range": (-9, 9)}
    images = PretrainedCNNFeatures(SmallCNN, image_shape=(2, 2), **how)
    expected = images.fit_transform(TABLE)
    assert_array_equal(images.fit_transform(table), expected)


def test_missing_cells_are_rows_of_nan_in_every_container(language):
    texts = PretrainedTextFeatures(language, engine="torch", on_error="nan").fit(["a"])
    expected = np.isnan([0.0, np.nan, 0.0])
    for X in (
        pd.Series(["a", None, "b"]),
        pd.array(["a", pd.NA, "b"]),
        pd.Categorical(["a", None, "b"]),
        pl.Series(["a", None, "b"]),
        pa.array(["a", None, "b"]),
        np.ma.masked_array(["a", "x", "b"], [0, 1, 0], dtype=object),
        ["a", np.array(["x", "y"]), "b"],
        ["a", pd.Series(["x", "y"]), "b"],
        ["a", pd.NaT, "b"],
    ):
        with pytest.warns(UserWarning, match=r"X\[1\]"):
            assert_array_equal(np.isnan(texts.transform(X)).all(axis=1), expected)


def test_nothing_of_the_callers_is_written_to(modalities):
    series = modalities["series"][1]
    frames = [pd.DataFrame(each, columns=["x", "y"]) for each in CHANNELS]
    frames[1].iloc[2, 0] = np.nan
    X = pd.DataFrame({"only": frames})
    before = [frame.copy() for frame in frames]
    series.fit_transform(X)
    series.transform([frame[["y", "x"]] for frame in frames])
    for frame, old in zip(X["only"], before, strict=True):
        pd.testing.assert_frame_equal(frame, old)
    cells = pa.array([each.tolist() for each in SERIES])
    series.fit(cells)
    assert cells.to_pylist() == [each.tolist() for each in SERIES]


@pytest.mark.parametrize("modality", ["paths", "series", "texts"])
def test_an_error_names_the_label_that_a_table_gives_the_row(modality, modalities):
    cells, transformer = modalities[modality]
    column = pd.Series(
        [*cells[:2], None, *cells[2:]], index=[f"id{i}" for i in range(len(cells) + 1)]
    )
    with pytest.raises((TypeError, ValueError), match=r"X\[2\] \(label 'id2'\)"):
        clone(transformer).fit_transform(column)
    with pytest.raises((TypeError, ValueError), match=r"X\[2\](?! \(label)"):
        clone(transformer).fit_transform(column.reset_index(drop=True))


@pytest.mark.parametrize("modality", ["paths", "series", "texts"])
def test_a_warning_of_rows_that_cannot_be_used_points_at_the_callers_line(modality, modalities):
    cells, transformer = modalities[modality]
    tolerant = clone(transformer).set_params(on_error="nan").set_output(transform="default")
    for call in (tolerant.fit_transform, tolerant.transform):
        with pytest.warns(UserWarning, match=r"The first, X\[1\]: ") as caught:
            call([cells[0], None])
        assert caught[-1].filename == __file__
