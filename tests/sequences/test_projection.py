"""A projection that is kept as a seed, against scikit-learn's."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.random_projection import GaussianRandomProjection

from sktransfer.sequences.projection import RandomProjection

X = np.random.RandomState(0).normal(size=(3, 400)).astype(np.float32)


def test_it_is_the_projection_of_scikit_learn():
    expected = GaussianRandomProjection(7, random_state=3).fit(X)
    found = RandomProjection.drawn(7, 400, 3)
    assert_array_equal(found.components_, expected.components_)
    assert_array_equal(found.transform(X), expected.transform(X))
    assert found.transform(X).dtype == np.float32
    assert_array_equal(found.get_feature_names_out(), expected.get_feature_names_out())


def test_more_features_than_there_are_is_a_warning():
    with pytest.warns(DataDimensionalityWarning, match="output_dim=7 is more than the 5 features"):
        wide = RandomProjection.drawn(7, 5, 3)
    assert pickle.loads(pickle.dumps(wide)).transform(X[:, :5]).shape == (3, 7)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_a_copy_draws_the_same_matrix(copied):
    projection = RandomProjection.drawn(7, 400, 3)
    assert_array_equal(copied(projection).transform(X), projection.transform(X))


def test_a_pickle_holds_no_matrix_and_is_the_same_before_and_after_it_is_used():
    projection = pickle.loads(pickle.dumps(RandomProjection.drawn(7, 4000, 3)))
    unused = joblib.hash(projection)
    assert projection.components_.nbytes > 100_000
    assert joblib.hash(projection) == unused
    assert len(pickle.dumps(projection)) < 1000


def test_threads_share_one_matrix():
    projection = pickle.loads(pickle.dumps(RandomProjection.drawn(7, 400, 3)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: projection.components_, range(32)))
    assert all(matrix is found[0] for matrix in found)


def test_another_matrix_than_that_of_the_fit_is_refused():
    other = RandomProjection(7, 400, 4, RandomProjection.drawn(7, 400, 3).sample)
    with pytest.raises(ValueError, match="cannot be drawn again.*fit again"):
        other.transform(X)
