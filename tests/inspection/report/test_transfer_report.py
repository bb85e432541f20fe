"""Parameters of a report, its file, and sections that fail."""

import html
import json
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer.inspection import TransferReport
from tests.helpers.reports import SCRIPT, both, quiet, small_network, small_pipeline


def test_a_section_that_fails_shows_its_error_and_leaves_the_others_alone(digits):
    X, y = digits[0][:40], digits[1][:40] > 4
    made = quiet(small_pipeline(), X, y, cv=2, embedding=SCRIPT, sections=["scores", "embedding"])
    with pytest.warns(UserWarning, match="the section 'Embedding' of the report failed"):
        page = made.to_html()
    assert made.summary()["sections_failed"] == ["embedding"]
    assert "ValueError: method must be one of" in page
    assert SCRIPT not in page
    assert "accuracy" in made.summary()["scores"]


def test_without_matplotlib_sections_with_figures_are_left_out(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = quiet(small_pipeline(), *both(digits), cv=2, sections=["scores", "layers", "embedding"])
    page = html.unescape(made.to_html())
    assert made.summary()["sections_failed"] == []
    assert page.count('needs matplotlib: run `pip install "sktransfer[plot]"`') == 2
    assert 'id="left-out"' in page


def test_predictions_that_fail_leave_the_description_of_the_data(digits):
    class Stubborn(LogisticRegression):
        def fit(self, X, y):
            raise RuntimeError("I will not")

    with pytest.warns(UserWarning, match="I will not"):
        summary = quiet(make_pipeline(small_network(), Stubborn()), *both(digits)).summary()
    assert {"scores", "confusion", "errors"} <= set(summary["sections_failed"])
    assert not {"data", "limits"} & set(summary["sections_failed"])
    assert summary["scores"] == {}


@pytest.mark.parametrize(
    ("estimator", "parameters", "message"),
    [
        (small_network(), {}, "must end in a classifier or regressor"),
        (LogisticRegression, {}, "must be a classifier, a regressor"),
        (GridSearchCV(small_pipeline(), {}, refit=False), {}, "refit=False"),
        (small_pipeline(), {"cv": 3, "X_train": [1]}, "give one of them"),
        (small_pipeline(), {"y_train": [1]}, "y_train needs X_train"),
        (small_pipeline(), {"groups": [1, 2]}, "groups must hold a value for each of the 40 rows"),
        (small_pipeline(), {"sample_domain": np.zeros(40)}, "none of them 0"),
        (small_pipeline(), {"n_errors": -1}, "n_errors == -1"),
        (small_pipeline(), {"max_rows": 1}, "max_rows == 1"),
        (small_pipeline(), {"sections": ["nothing"]}, "sections must be a list of some of"),
        (small_pipeline(), {"sections": "data"}, "sections must be a list of some of"),
        (small_pipeline(), {"title": 3}, "title must be a str"),
        (small_pipeline(), {"target_names": ["one"]}, "target_names must name each of the 2"),
    ],
)
def test_wrong_arguments_are_named(estimator, parameters, message, digits):
    with pytest.raises((TypeError, ValueError), match=message):
        TransferReport(estimator, *both(digits), **parameters).to_html()


def test_a_file_that_cannot_be_written_is_found_out_before_the_work(digits, tmp_path):
    class Fails(LogisticRegression):
        def fit(self, X, y):
            raise AssertionError("the work has begun")

    made = quiet(make_pipeline(small_network(), Fails()), *both(digits))
    with pytest.raises(FileNotFoundError):
        made.to_html(tmp_path / "nowhere" / "report.html")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        made.to_html(tmp_path)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_the_file_holds_the_page_and_nothing_is_left_beside_it(report, tmp_path):
    page = report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    json.dumps(report.summary(), allow_nan=False)
