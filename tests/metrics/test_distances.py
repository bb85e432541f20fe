"""Gaps between domains against plain NumPy, SciPy and the loss of fine-tuning."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist, pdist
from scipy.stats import energy_distance as energy_of_one_feature
from scipy.stats import kstest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics.pairwise import laplacian_kernel, rbf_kernel

from sktransfer.finetuning.alignment import coral_loss
from sktransfer.metrics import (
    coral_distance,
    distances,
    energy_distance,
    mmd,
    mmd_permutation_test,
    proxy_a_distance,
)
from sktransfer.metrics._kernel_sums import BlockKernel

RNG = np.random.RandomState(0)
X = RNG.normal(size=(30, 4))
Y = RNG.normal(0.5, 1.5, size=(23, 4))
GAPS = {
    "mmd": mmd,
    "energy_distance": energy_distance,
    "coral_distance": coral_distance,
    "proxy_a_distance": lambda A, B: proxy_a_distance(A, B, random_state=0),
}


def double_sums(X, Y, kernel, estimator):
    """Its definition, pair by pair."""
    n, m = len(X), len(Y)
    within_X = sum(kernel(a, b) for i, a in enumerate(X) for j, b in enumerate(X) if i != j)
    within_Y = sum(kernel(a, b) for i, a in enumerate(Y) for j, b in enumerate(Y) if i != j)
    across = sum(kernel(a, b) for a in X for b in Y)
    if estimator == "unbiased":
        return within_X / (n * (n - 1)) + within_Y / (m * (m - 1)) - 2 * across / (n * m)
    within_X += sum(kernel(a, a) for a in X)
    within_Y += sum(kernel(a, a) for a in Y)
    return within_X / n**2 + within_Y / m**2 - 2 * across / (n * m)


KERNELS = {
    "rbf": lambda a, b: np.exp(-0.3 * ((a - b) ** 2).sum()),
    "laplacian": lambda a, b: np.exp(-0.3 * np.abs(a - b).sum()),
    "linear": lambda a, b: a @ b,
}


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_is_its_double_sum(kernel, estimator):
    expected = double_sums(X, Y, KERNELS[kernel], estimator)
    found = mmd(X, Y, kernel=kernel, gamma=0.3, estimator=estimator)
    assert_allclose(found, expected, atol=1e-13)
    assert_allclose(mmd(Y, X, kernel=kernel, gamma=0.3, estimator=estimator), found, atol=1e-13)


def test_linear_mmd_is_the_distance_of_means():
    expected = ((X.mean(0) - Y.mean(0)) ** 2).sum()
    assert_allclose(mmd(X, Y, kernel="linear", estimator="biased"), expected)
    far = mmd(X + 1e3, Y + 1e3, kernel="linear", estimator="biased")
    assert_allclose(far, expected, rtol=1e-9)


def test_mmd_takes_the_median_distance_for_its_width():
    rows = np.concatenate([X, Y])
    assert_allclose(mmd(X, Y), mmd(X, Y, gamma=0.5 / np.median(pdist(rows, "sqeuclidean"))))
    by_default = mmd(X, Y, kernel="laplacian")
    width = np.median(pdist(rows, "cityblock"))
    assert_allclose(by_default, mmd(X, Y, kernel="laplacian", gamma=1 / width))
    assert_allclose(mmd(100 * X, 100 * Y), mmd(X, Y))


@pytest.mark.parametrize(
    ("kernel", "function"), [("rbf", rbf_kernel), ("laplacian", laplacian_kernel)]
)
def test_mmd_of_many_rows_goes_by_blocks(monkeypatch, kernel, function):
    rng = np.random.RandomState(1)
    A, B = rng.normal(size=(700, 3)), rng.normal(0.2, 1, size=(650, 3))
    sizes = []
    block = BlockKernel.block

    def watched(self, first, second):
        values = block(self, first, second)
        sizes.append(values.size)
        return values

    monkeypatch.setattr(BlockKernel, "block", watched)
    found = mmd(A, B, kernel=kernel, gamma=0.2, estimator="biased")
    expected = function(A, gamma=0.2).mean() + function(B, gamma=0.2).mean()
    expected -= 2 * function(A, B, gamma=0.2).mean()
    assert_allclose(found, expected, atol=1e-13)
    assert len(sizes) == 6  # half of the 3 x 3 blocks, and those on the diagonal
    assert max(sizes) <= 512**2


@pytest.mark.parametrize("name", GAPS)
def test_gaps_do_not_depend_on_the_order_of_rows(name):
    rng = np.random.RandomState(2)
    A, B = rng.normal(size=(1500, 3)), rng.normal(1, 1, size=(1100, 3))
    again = GAPS[name](rng.permutation(A), rng.permutation(B))
    assert_allclose(again, GAPS[name](A, B), rtol=1e-10)


def test_permutations_have_the_statistics_of_the_samples_they_deal():
    found = mmd_permutation_test(X, Y, n_permutations=5, random_state=3)
    rows, random = np.concatenate([X, Y]), np.random.RandomState(3)
    is_X = np.arange(len(rows)) < len(X)
    for statistic in found.null_distribution:
        dealt = is_X[random.permutation(len(rows))]
        assert_allclose(statistic, mmd(rows[dealt], rows[~dealt]), atol=1e-13)
    assert found.statistic == pytest.approx(mmd(X, Y), abs=1e-14)
    assert found.pvalue == (1 + (found.null_distribution >= found.statistic).sum()) / 6


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_permutation_p_values_are_uniform_for_samples_of_one_distribution(estimator):
    rng = np.random.RandomState(4)
    pvalues = []
    for _ in range(300):
        A, B = rng.normal(size=(12, 2)), rng.normal(size=(17, 2))
        how = {"n_permutations": 99, "estimator": estimator, "random_state": rng}
        pvalues.append(mmd_permutation_test(A, B, **how).pvalue)
    # They lie on 0.01, 0.02, ..., 1.
    assert kstest(np.array(pvalues) - rng.uniform(0, 0.01, 300), "uniform").pvalue > 0.01
    assert np.mean(np.array(pvalues) <= 0.05) < 0.1


def test_permutation_test_sees_a_gap_and_draws_by_random_state_alone():
    before = np.random.get_state()
    first = mmd_permutation_test(X, Y + 2, random_state=0)
    again = mmd_permutation_test(X, Y + 2, random_state=0)
    assert first.pvalue == 0.005
    assert_allclose(first.null_distribution, again.null_distribution, rtol=0)
    np.testing.assert_equal(np.random.get_state(), before)


def test_permutation_test_of_equal_rows_finds_nothing():
    same = np.ones((10, 2))
    assert mmd_permutation_test(same, same, random_state=0).pvalue == 1
    two = np.arange(20) % 2
    assert mmd_permutation_test(two[:, None], two[:, None], random_state=0).pvalue > 0.5


def test_energy_distance_is_that_of_scipy_for_one_feature():
    found = energy_distance(X[:, :1], Y[:, :1])
    assert_allclose(found, energy_of_one_feature(X[:, 0], Y[:, 0]), rtol=1e-12)
    flat = [np.column_stack([rows[:, 0], np.zeros(len(rows))]) for rows in (X, Y)]
    assert_allclose(energy_distance(*flat), found, rtol=1e-10)  # by its definition in two


def test_energy_distance_is_its_definition_and_goes_by_blocks(monkeypatch):
    expected = np.sqrt(2 * cdist(X, Y).mean() - cdist(X, X).mean() - cdist(Y, Y).mean())
    assert_allclose(energy_distance(X, Y), expected, rtol=1e-12)
    monkeypatch.setattr(distances, "_BLOCK", 7)
    assert_allclose(energy_distance(X, Y), expected, rtol=1e-12)
    assert energy_distance(X, X) == pytest.approx(0, abs=1e-7)


def test_coral_distance_is_the_loss_of_fine_tuning():
    loss = coral_loss(torch.tensor(X), torch.tensor(Y))
    assert_allclose(coral_distance(X, Y), float(loss), rtol=1e-12)
    assert_allclose(coral_distance(X + 5, Y), float(loss), rtol=1e-12)
    assert coral_distance(X[:, :1], X[:, :1]) == 0


def test_proxy_a_distance_runs_from_none_to_two():
    rng = np.random.RandomState(5)
    A, B = rng.normal(size=(400, 3)), rng.normal(size=(400, 3))
    assert abs(proxy_a_distance(A, B, random_state=0)) < 0.2
    assert proxy_a_distance(A, B + 20, random_state=0) == 2
    few = proxy_a_distance(A, B[:40], random_state=0)
    assert abs(few) < 0.5  # with 40 of 440 rows a constant guess errs in one of eleven


def test_proxy_a_distance_takes_another_classifier():
    rng = np.random.RandomState(6)
    A, B = rng.normal(size=(200, 2)), 3 * rng.normal(size=(200, 2))
    forest = RandomForestClassifier(20, max_depth=3, random_state=0)
    assert proxy_a_distance(A, B, estimator=forest, random_state=0) > 1
    assert proxy_a_distance(A, B, random_state=0) < 0.4  # the means are alike
    assert not hasattr(forest, "classes_")


@pytest.mark.parametrize("name", GAPS)
def test_gaps_refuse_other_features_and_leave_their_input_alone(name):
    A, B = X.copy(), Y.copy()
    A.flags.writeable = B.flags.writeable = False
    assert isinstance(GAPS[name](A, B), float)
    assert_allclose(GAPS[name](A.astype("f4"), B.astype("f4")), GAPS[name](A, B), rtol=1e-4)
    with pytest.raises(ValueError, match="equally many features, got 4 and 3"):
        GAPS[name](X, Y[:, :3])
    with pytest.raises(ValueError, match="Input Y contains NaN"):
        GAPS[name](X, np.full_like(Y, np.nan))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "cubic"}, r"kernel must be one of .* got 'cubic'"),
        ({"estimator": "best"}, r"estimator must be one of .* got 'best'"),
        ({"gamma": "mean"}, "gamma must be 'median' or a number above 0, got 'mean'"),
        ({"gamma": 0.0}, "gamma must be 'median' or a number above 0, got 0.0"),
        ({"gamma": np.nan}, "gamma must be 'median' or a number above 0, got nan"),
        ({"gamma": np.inf}, "gamma must be 'median' or a number above 0, got inf"),
    ],
)
def test_mmd_names_the_parameter_that_is_not_sound(parameters, message):
    with pytest.raises(ValueError, match=message):
        mmd(X, Y, **parameters)


def test_other_parameters_are_checked_too():
    with pytest.raises(ValueError, match="n_permutations"):
        mmd_permutation_test(X, Y, n_permutations=0)
    with pytest.raises(ValueError, match="cv must be at most the number of rows .* 23, got 24"):
        proxy_a_distance(X, Y, cv=24)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        mmd(X[:1], Y)
