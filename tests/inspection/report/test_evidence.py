"""Labels, and the names of classes."""

import html

import numpy as np
import pytest

from tests.helpers.reports import Tables, both, quiet, small_pipeline


def test_long_names_that_begin_alike_are_told_apart_and_leave_room(digits):
    X, y = digits[0][:60], digits[1][:60] % 2
    names = np.array([f"{'specimen ' * 17}<b>one</b>", f"{'specimen ' * 17}<b>two</b>"])
    made = quiet(small_pipeline(), X, names[y], cv=2, sections=["data", "scores", "confusion"])
    tables = Tables(made.to_html())
    for caption in ("2 classes", "By class", "Rows are true classes"):
        shown = {row[0] for row in tables.table(caption)[1:]}
        assert len(shown) == 2
        assert max(map(len, shown)) <= 32
    assert f'title="{html.escape(names[0])}"' in made.to_html()
    assert made.summary()["classes"] == names.tolist()


def test_labels_must_fit_the_rows_and_rows_must_be_readable(digits, tmp_path):
    X, y = both(digits)
    with pytest.raises(ValueError, match="y must hold a value for each of the 40 rows of X"):
        quiet(small_pipeline(), X, y[:3]).to_html()
    with pytest.raises(ValueError, match="none of the 2 rows of X can be read"):
        quiet(
            small_pipeline(), [str(tmp_path / "a.png"), str(tmp_path / "b.png")], [0, 1]
        ).to_html()
    with pytest.raises(ValueError, match="y holds no label"):
        quiet(small_pipeline(), X, np.full(40, np.nan)).to_html()


def test_rows_without_a_label_are_left_out(digits):
    X, y = digits[0][:60], np.where(digits[1][:60] > 4, "high", "low").astype(object)
    y[::10], y[5] = None, np.nan
    summary = quiet(small_pipeline(), X, y, cv=2).summary()
    assert summary["predicted"] == 53
    assert summary["classes"] == ["high", "low"]
