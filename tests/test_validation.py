"""Two domains in one table: what is stacked, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

from sktransfer._validation import checked_domain, labelled_mask, source_mask, stack_domains

SOURCE, TARGET = np.arange(6.0).reshape(3, 2), np.arange(4.0).reshape(2, 2) + 10


@pytest.mark.parametrize(
    "domain",
    [
        [2, -1, 1],
        np.array([2.0, -0.5, 1.0]),
        np.array([[2], [-1], [1]]),
        pd.Series([2, -1, 1], index=[7, 8, 9]),
        pd.Series([2, -1, 1], dtype="Int64"),
        np.array([2, -1, 1], dtype=object),
    ],
)
def test_numbers_of_any_type_tell_source_rows(domain):
    assert_array_equal(source_mask(domain, 3), [True, False, True])


@pytest.mark.parametrize(
    ("domain", "got"),
    [
        (1, "got 1$"),
        ("source", "got 'source'$"),
        ([1, -1], "got 2 of them"),
        ([1, -1, 0], "got 0 in row 2"),
        ([1.0, -0.0, -1.0], "got -0 in row 1"),
        ([1, np.nan, -1], "got nan in row 1"),
        ([True, False, False], r"got \[True, False, False\] of dtype bool"),
        (["s", "t", "t"], r"got \['s', 't', 't'\] of dtype <U1"),
        ([1, None, -1], r"got \[1, None, -1\] of dtype object"),
        (np.array([1, True, -1], dtype=object), r"got \[1, True, -1\] of dtype object"),
        (pd.Series([1, None, -1], dtype="Int64"), "got nan in row 1"),
    ],
)
def test_what_tells_no_domains_is_refused_with_what_was_got(domain, got):
    with pytest.raises(ValueError, match=f"sample_domain must hold 3 numbers, positive .*{got}"):
        checked_domain(domain, 3)


def test_labelled_rows_are_those_of_the_source_and_those_that_are_said_to_be():
    is_source = np.array([True, False, False])
    for said in ([False, False, True], pd.Series([False, False, True], dtype="boolean")):
        assert_array_equal(labelled_mask(is_source, said), [True, False, True])
    assert_array_equal(labelled_mask(is_source, None), is_source)
    for wrong in ([0, 0, 1], [True, False], ["no", "no", "yes"]):
        with pytest.raises(ValueError, match="target_labeled must hold 3 booleans"):
            labelled_mask(is_source, wrong)


@pytest.mark.parametrize(
    ("labels", "blank"),
    [
        ([0, 1, 1], -1),
        ([3, 7, 7], 2),
        ([0.5, 1.5, 2.5], np.nan),
        (["no", "yes", "no"], ""),
        (np.array(["no", "yes", "no"], dtype=object), ""),
        ([True, False, True], -1),
        (np.array([0, 1, 1], dtype=np.uint8), -1),
    ],
)
def test_rows_of_the_target_get_what_no_label_is(labels, blank):
    X, y, domain = stack_domains(SOURCE, TARGET, labels)
    assert_array_equal(X, np.concatenate([SOURCE, TARGET]))
    assert_array_equal(domain, [1, 1, 1, -1, -1])
    assert_array_equal(y[:3], labels)
    assert_array_equal(y[3:], np.array([blank, blank], dtype=y.dtype))
    assert not set(y[:3].tolist()) & set(y[3:].tolist())


def test_labels_of_the_target_are_kept_and_need_those_of_the_source():
    assert stack_domains(SOURCE, TARGET, [0, 1, 0], [1, 1])[1].tolist() == [0, 1, 0, 1, 1]
    assert stack_domains(SOURCE, TARGET)[1] is None
    with pytest.raises(ValueError, match="y_target needs y_source"):
        stack_domains(SOURCE, TARGET, None, [1, 1])


@pytest.mark.parametrize(
    ("y_source", "y_target"), [([0, 1, 0], ["0", "1"]), (["0", "1", "0"], [0.0, 1.0])]
)
def test_text_and_numbers_are_not_mixed(y_source, y_target):
    """NumPy would make text of both, and "0" is not 0."""
    with pytest.raises(ValueError, match="y_source and y_target must both be text or both"):
        stack_domains(SOURCE, TARGET, y_source, y_target)


def test_frames_stay_frames_and_sparse_rows_sparse():
    frames = [pd.DataFrame(rows, columns=["a", "b"]) for rows in (SOURCE, TARGET)]
    X, _, _ = stack_domains(*frames)
    assert list(X.columns) == ["a", "b"]
    assert list(X.index) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="same columns in the same order"):
        stack_domains(frames[0], frames[1][["b", "a"]])
    for pair in ((sparse.csr_matrix(SOURCE), TARGET), (SOURCE, sparse.csr_matrix(TARGET))):
        assert_array_equal(stack_domains(*pair)[0].toarray(), np.concatenate([SOURCE, TARGET]))
    with pytest.raises(ValueError, match=r"have shape \(2,\), those of X_target \(1,\)"):
        stack_domains(SOURCE, TARGET[:, :1])
