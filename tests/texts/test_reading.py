"""X in all its forms as a list of texts."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sktransfer.texts.reading import as_texts

TEXTS = ["one", "two words", "", "naïve"]


@pytest.mark.parametrize(
    "X",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS)[:, None],
        pd.Series(TEXTS, index=range(4, 8)),
        pd.Series(TEXTS, dtype="string"),
        pd.Series(TEXTS, dtype="category"),
        pd.DataFrame({"text": TEXTS}),
        pl.Series(TEXTS),
        pl.DataFrame({"text": TEXTS}),
        pa.array(TEXTS),
    ],
    ids=lambda X: f"{type(X).__module__}.{type(X).__name__}",
)
def test_texts_come_in_many_containers(X):
    found, failed = as_texts(X, "raise")
    assert found == TEXTS
    assert {type(text) for text in found} == {str}
    assert failed == []


WRONG = [
    ("one text", "got the single text 'one text'; pass \\[text\\]"),
    (b"bytes", "got the single text"),
    ({"a": 1}, r"got a dict; pass .* list\(X.values\(\)\)"),
    ((t for t in TEXTS), r"got a generator; pass list\(X\)"),
    ([], "0 sample\\(s\\)"),
    (np.zeros((3, 4)), "array of shape \\(3, 4\\)"),
    (pd.DataFrame({"a": TEXTS, "b": TEXTS}), "table of 2 columns"),
    (["a", 3], "X\\[1\\] is not usable: it must be a str, got 3. .* on_error='nan'"),
    (["a", b"b"], "X\\[1\\] is not usable: .*; decode it"),
    (["a", None], "X\\[1\\] is not usable: it is missing"),
    (["a", np.nan], "it is missing"),
    (pd.Series(["a", pd.NA], dtype="string"), "it is missing"),
    (["a", "\ud800"], "cannot be written as UTF-8"),
    ([["some", "tokens"], ["more"]], r"X\[0\] is not usable: .* ' '.join\(tokens\)"),
]


@pytest.mark.parametrize(("X", "message"), WRONG)
def test_what_is_no_sequence_of_texts_is_refused(X, message):
    with pytest.raises((TypeError, ValueError), match=message):
        as_texts(X, "raise")


def test_rows_without_text_are_listed_and_empty_if_asked_for():
    found, failed = as_texts(["a", None, 3.5, "\udcff", "b"], "nan")
    assert found == ["a", "", "", "", "b"]
    assert [failure.index for failure in failed] == [1, 2, 3]
    assert [failure.message[:20] for failure in failed] == [
        "it is missing",
        "it must be a str, go",
        "it cannot be written",
    ]


@pytest.mark.parametrize("X", [case for case, _ in WRONG[:7]], ids=lambda X: type(X).__name__)
def test_what_has_no_rows_of_texts_is_refused_whatever_becomes_of_single_rows(X):
    with pytest.raises((TypeError, ValueError)):
        as_texts(X, "nan")
