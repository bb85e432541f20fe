"""Embeddings against the same done by hand, and thumbnails that leave each other alone."""

import importlib.util
import io
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE, Isomap
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedCNNFeatures
from sktransfer.inspection import EmbeddingDisplay
from sktransfer.inspection._plotting import COLOURS
from sktransfer.inspection._thumbnails import thumbnail, without_overlap
from tests.helpers.fresh import in_another_process


@pytest.fixture(scope="module")
def table(digits):
    """60 rows of pixels that vary, and their labels."""
    pixels = digits[0][:60].reshape(60, 64)
    return pixels[:, pixels.std(axis=0) > 0], digits[1][:60]


def test_pca_is_of_standardised_features(table):
    X, y = table
    display = EmbeddingDisplay.from_features(X, y)
    pca = PCA(2).fit((X - X.mean(0)) / X.std(0))
    points = pca.transform((X - X.mean(0)) / X.std(0))
    np.testing.assert_allclose(display.points, points, atol=1e-9)
    np.testing.assert_allclose(display.explained, pca.explained_variance_ratio_)
    share = 100 * pca.explained_variance_ratio_[0]
    assert display.ax_.get_xlabel() == f"PCA 1 ({share:.1f} % of variance)"


def test_tsne_sees_fifty_standardised_components(table):
    X, y = table
    display = EmbeddingDisplay.from_features(X, y, method="tsne", random_state=3)
    reduced = PCA(min(50, X.shape[1])).fit_transform(StandardScaler().fit_transform(X))
    by_hand = TSNE(2, perplexity=59 / 3, random_state=3).fit_transform(reduced)
    np.testing.assert_allclose(display.points, by_hand, rtol=1e-3, atol=1e-2)
    assert display.ax_.get_xlabel() == "t-SNE 1"
    assert list(display.ax_.get_xticks()) == []


def umap_by_display_and_by_hand():
    os.environ["NUMBA_DISABLE_JIT"] = "1"  # for so few rows, to compile takes longer
    from umap import UMAP

    X = np.random.RandomState(0).normal(size=(24, 10))
    display = EmbeddingDisplay.from_features(X, method="umap", random_state=5)
    reduced = PCA(10).fit_transform(StandardScaler().fit_transform(X))
    umap = UMAP(n_components=2, n_neighbors=15, random_state=5, n_jobs=1)
    np.testing.assert_allclose(display.points, umap.fit_transform(reduced), atol=1e-3)
    return display.ax_.get_ylabel()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="needs umap-learn")
def test_umap_is_that_of_umap_learn():
    assert in_another_process(umap_by_display_and_by_hand) == "UMAP 2"


def test_the_absence_of_umap_has_a_cure(table, without):
    without("umap")
    with pytest.raises(ImportError, match="pip install umap-learn`, or set method='tsne'"):
        EmbeddingDisplay.from_features(table[0], method="umap")


def test_any_estimator_that_gives_two_columns_can_be_the_method(table):
    method = Isomap(n_components=2, n_neighbors=10)
    display = EmbeddingDisplay.from_features(table[0], method=method)
    assert display.points.shape == (60, 2)
    assert display.ax_.get_xlabel() == "Isomap 1"
    assert not hasattr(method, "embedding_")  # a clone was fitted


def test_classes_have_colours_and_a_legend_in_their_order(table):
    X, y = table
    names = np.array(["_hidden", "$\\alpha$", "c"])[y % 3]
    display = EmbeddingDisplay.from_features(X, names)
    assert [len(part.get_offsets()) for part in display.scatter_] == [
        (names == name).sum() for name in ("$\\alpha$", "_hidden", "c")
    ]
    texts = display.legend_.get_texts()
    assert [text.get_text() for text in texts] == ["$\\alpha$", " _hidden", "c"]
    assert not any(text.get_parse_math() for text in texts)
    for part, name, colour in zip(display.scatter_, np.unique(names), COLOURS, strict=False):
        np.testing.assert_allclose(part.get_offsets(), display.points[names == name])
        assert to_rgba(part.get_facecolor()[0])[:3] == to_rgba(colour)[:3]


def test_of_many_classes_the_frequent_ones_have_colours(table):
    y = np.repeat([0, 1, 2, 3, 4], [30, 2, 20, 5, 3])
    display = EmbeddingDisplay.from_features(table[0], y, max_classes=3)
    shown = [text.get_text() for text in display.legend_.get_texts()]
    assert shown == ["0", "2", "3 other classes"]
    assert [len(part.get_offsets()) for part in display.scatter_] == [10, 30, 20]


def test_numbers_have_a_colour_bar(table):
    X = table[0]
    display = EmbeddingDisplay.from_features(X, X.mean(axis=1))
    np.testing.assert_allclose(display.scatter_[0].get_array(), X.mean(axis=1))
    assert display.colorbar_.vmax == X.mean(axis=1).max()
    assert display.legend_ is None


def test_without_labels_there_is_neither(table):
    display = EmbeddingDisplay.from_features(table[0])
    assert display.legend_ is display.colorbar_ is None
    assert len(display.scatter_) == 1


def test_unreadable_rows_are_dropped_with_their_labels_and_images_and_counted(table, digits):
    X, y = table[0].copy(), table[1]
    X[[4, 9]] = np.nan
    display = EmbeddingDisplay.from_features(X, y, images=digits[0][:60], thumbnail_size=10)
    assert display.n_dropped == 2
    np.testing.assert_array_equal(display.rows, np.delete(np.arange(60), [4, 9]))
    np.testing.assert_array_equal(display.labels, np.delete(y, [4, 9]))
    np.testing.assert_array_equal(display.images[4], digits[0][5])
    assert display.ax_.get_title(loc="left") == "2 unreadable rows left out"
    whole = EmbeddingDisplay.from_features(np.delete(X, [4, 9], axis=0))
    np.testing.assert_allclose(display.points, whole.points)


@pytest.mark.slow
def test_a_fitted_transformer_is_used_and_another_is_cloned(digits):
    images, labels = digits[0][:40], digits[1][:40]
    features = PretrainedCNNFeatures(engine="torch", layer="blocks.1", image_size=32)
    first = EmbeddingDisplay.from_estimator(features, images, labels)
    assert not hasattr(features, "module_")
    pipeline = make_pipeline(features, StandardScaler(), LogisticRegression(max_iter=1000))
    pipeline.fit(images, labels)
    second = EmbeddingDisplay.from_estimator(pipeline, images, labels)
    np.testing.assert_allclose(first.points, second.points, atol=1e-3)
    with pytest.raises(TypeError, match="must have a method transform"):
        EmbeddingDisplay.from_estimator(LogisticRegression(), images, labels)


def test_thumbnails_do_not_overlap_and_lie_at_their_points(digits):
    images, labels = digits[0][:200], digits[1][:200]
    display = EmbeddingDisplay.from_features(images.reshape(200, 64), labels, images=images)
    display.figure_.savefig(io.BytesIO())
    boxes = [part.get_window_extent() for part in display.thumbnails_]
    assert 10 < len(boxes) <= 80
    frame = display.ax_.get_window_extent()
    middles = display.ax_.transData.transform(display.points[display.thumbnail_points_])
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1
        np.testing.assert_allclose(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2), middles[number])
    shown = display.thumbnails_[0].offsetbox.get_data()
    expected = np.rint(255 * images[display.thumbnail_points_[0]])
    np.testing.assert_array_equal(shown, expected)


def test_room_is_given_to_points_one_side_apart():
    places = np.random.RandomState(0).uniform(0, 100, (500, 2))
    chosen = places[without_overlap(places, np.array([[0, 0], [100, 100]]), 10, 1000)]
    apart = np.abs(chosen[:, None] - chosen[None]).max(axis=2)
    assert apart[~np.eye(len(chosen), dtype=bool)].min() >= 10
    assert chosen.min() >= 5
    assert chosen.max() <= 95
    # No point is left that would have had room.
    inside = places[((places >= 5) & (places <= 95)).all(axis=1)]
    assert np.abs(inside[:, None] - chosen[None]).max(axis=2).min(axis=1).max() < 10
    assert len(without_overlap(places, np.array([[0, 0], [100, 100]]), 10, 7)) == 7
    assert len(without_overlap(places, np.array([[0, 0], [5, 5]]), 10, 7)) == 0


def test_thumbnails_are_made_of_all_kinds_of_images(photos, tmp_path):
    photo = photos[0]
    path = tmp_path / "photo.png"
    photo.save(path)
    for item in (photo, str(path), path, np.asarray(photo)):
        small = thumbnail(item, 40)
        assert small.shape[1:] == (40, 3)
        expected = np.asarray(photo.resize((40, small.shape[0]), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(small, expected, atol=12)
    grey = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_array_equal(thumbnail(grey, 40), np.rint(grey * 17))  # over its own range
    np.testing.assert_array_equal(thumbnail(grey[None] / 15, 40), np.rint(grey * 17))
    first = np.moveaxis(np.asarray(photo), 2, 0)
    np.testing.assert_array_equal(thumbnail(first, 999), np.asarray(photo))
    with pytest.raises(ValueError, match=r"got one of shape \(3,\)"):
        thumbnail(np.zeros(3), 40)


def test_it_is_drawn_on_given_axes(table):
    _, (first, second) = plt.subplots(1, 2)
    display = EmbeddingDisplay.from_features(*table, ax=second, s=3)
    assert display.ax_ is second
    assert display.figure_ is first.figure
    assert display.scatter_[0].get_sizes() == [3]
    assert not first.collections


def test_what_cannot_be_drawn_is_refused_with_the_rule(table):
    X, y = table
    with pytest.raises(ValueError, match=r"method must be one of \('pca', 'tsne', 'umap'\) or an"):
        EmbeddingDisplay.from_features(X, method="lle")
    with pytest.raises(ValueError, match="features has 60 rows and labels has 59"):
        EmbeddingDisplay.from_features(X, y[1:])
    with pytest.raises(ValueError, match="features has 60 rows and images has 2"):
        EmbeddingDisplay.from_features(X, images=X[:2])
    with pytest.raises(ValueError, match="at least 3 rows without NaN, got 0 of 60"):
        EmbeddingDisplay.from_features(np.full_like(X, np.nan))
    with pytest.raises(ValueError, match="at least 2 columns"):
        EmbeddingDisplay.from_features(X[:, :1])
    with pytest.raises(ValueError, match=r"must give 2 columns.*set n_components=2"):
        EmbeddingDisplay.from_features(X, method=PCA(3))
    with pytest.raises(ValueError, match=r"points must be of shape \(n, 2\), got \(60, 3\)"):
        EmbeddingDisplay(X[:, :3]).plot()
    with pytest.raises(ValueError, match="there are 60 points and 1 labels"):
        EmbeddingDisplay(X[:, :2], [1]).plot()


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_points_without_a_label_are_grey_and_named(table, missing):
    X, y = table
    labels = np.array(["a", "b", missing], dtype=object)[y % 3]
    display = EmbeddingDisplay.from_features(X, labels)
    assert [text.get_text() for text in display.legend_.get_texts()] == ["a", "b", "no label"]
    unlabelled, first, _ = display.scatter_
    np.testing.assert_allclose(unlabelled.get_offsets(), display.points[y % 3 == 2])
    np.testing.assert_allclose(first.get_offsets(), display.points[y % 3 == 0])
    whole = EmbeddingDisplay.from_features(X, labels, max_classes=1)
    texts = [text.get_text() for text in whole.legend_.get_texts()]
    assert texts == ["2 other classes", "no label"]


def test_numbers_that_are_missing_are_grey_beside_the_colour_bar(table):
    numbers = table[0].mean(axis=1)
    numbers[[3, 5]] = np.nan
    for labels in (numbers, numbers.astype(object), pd.Series(numbers)):
        display = EmbeddingDisplay.from_features(table[0], labels, images=table[0][:, None])
        grey, numbered = display.scatter_
        np.testing.assert_allclose(grey.get_offsets(), display.points[[3, 5]])
        np.testing.assert_allclose(numbered.get_array(), np.delete(numbers, [3, 5]))
        assert display.colorbar_.vmax == np.nanmax(numbers)
        assert [text.get_text() for text in display.legend_.get_texts()] == ["no label"]
    nothing = EmbeddingDisplay.from_features(table[0], np.full(60, np.nan))
    assert len(nothing.scatter_) == 1
    assert nothing.colorbar_ is None


def test_labels_without_an_order_are_refused_by_row(table):
    labels = np.array([None, "a", "a", 1, *["b"] * 56], dtype=object)
    with pytest.raises(ValueError, match="labels must be all text or all .* got 1 in row 3 after"):
        EmbeddingDisplay.from_features(table[0], labels)
    with pytest.raises(ValueError, match="labels must be finite numbers, .*got inf in row 2"):
        EmbeddingDisplay.from_features(table[0], np.r_[np.nan, 0.5, np.inf, np.ones(57)])


def test_long_names_of_classes_leave_most_of_the_figure_to_the_points(table):
    X, y = table
    names = np.array([f"a class whose name has {'very ' * 5}many letters: {k}" for k in range(3)])
    display = EmbeddingDisplay.from_features(X, names[y % 3])
    display.figure_.draw_without_rendering()
    assert display.ax_.get_position().width > 0.5
    texts = [text.get_text() for text in display.legend_.get_texts()]
    assert [text[-1] for text in texts] == ["0", "1", "2"]
    np.testing.assert_array_equal(display.labels, names[y % 3])


def test_features_that_are_all_the_same_have_no_variance_to_share():
    X = np.full((30, 4), 0.1)
    display = EmbeddingDisplay.from_features(X)
    assert display.ax_.get_xlabel() == "PCA 1 (0.0 % of variance)"
    np.testing.assert_array_equal(display.points, 0)
    with pytest.raises(ValueError, match="features are the same in all 30 rows.*method='tsne'"):
        EmbeddingDisplay.from_features(X, method="tsne")


def test_classes_that_missing_labels_made_floats_are_named_as_they_were(table):
    labels = pd.Series([0, None, 2] * 20)
    assert labels.dtype == float
    display = EmbeddingDisplay.from_features(table[0], labels)
    assert [text.get_text() for text in display.legend_.get_texts()] == ["0", "2", "no label"]


def test_an_error_counts_rows_as_the_features_do_when_some_are_unreadable(table):
    X, labels = table[0].copy(), np.linspace(0.1, 0.9, 60)
    X[0], labels[7] = np.nan, np.inf
    with pytest.raises(ValueError, match="got inf in row 7"):
        EmbeddingDisplay.from_features(X, labels)
