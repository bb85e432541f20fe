"""The order of rows that does not depend on how they came."""

import numpy as np
import pytest

from sktransfer.adaptation._kernels import canonical_order


@pytest.mark.parametrize("n_values", [3, 10**6])  # with ties in the first column, and without
def test_canonical_order_is_by_the_first_column_then_the_second(n_values):
    random = np.random.RandomState(0)
    X = random.randint(n_values, size=(200, 3)) - n_values / 2
    np.testing.assert_array_equal(X[canonical_order(X)], X[np.lexsort(X.T[::-1])])
    shuffled = X[random.permutation(200)]
    np.testing.assert_array_equal(shuffled[canonical_order(shuffled)], X[canonical_order(X)])


def test_canonical_order_takes_both_zeros_for_one():
    np.testing.assert_array_equal(canonical_order(np.array([[0.0, 2], [-0.0, 1]])), [1, 0])
