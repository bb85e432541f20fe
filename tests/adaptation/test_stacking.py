"""Two domains stacked in one table."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

from sktransfer.adaptation.stacking import stack_domains

SOURCE, TARGET = np.arange(6.0).reshape(3, 2), np.arange(4.0).reshape(2, 2) + 10


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
