"""The linear head against scikit-learn's linear models."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from sktransfer.finetuning.probing import RowSpace, fit_head

RNG = np.random.RandomState(0)
N = 90
FEATURES = (RNG.normal(size=(N, 6)) * [1, 1, 20, 0.1, 3, 1] + [0, 5, 0, 1, -9, 0]).astype("float32")
CODES = (FEATURES[:, 0] + RNG.normal(size=N) > 0).astype(int) + (FEATURES[:, 2] > 12)
UNIFORM = np.ones(N, dtype=np.float32)
WEIGHTS = RNG.uniform(0.2, 3, N).astype(np.float32)


def scores_of(head, features):
    with torch.inference_mode():
        return head(head.standardise(torch.from_numpy(features))).numpy()


def one_hot(codes, n_classes):
    return np.eye(n_classes, dtype=np.float32)[codes]


def scaled(features, weights, power):
    """Features divided by a power of their deviations, by scikit-learn's scaler."""
    scaler = StandardScaler().fit(features, sample_weight=weights)
    scale = np.maximum(scaler.scale_, 0.1 * scaler.scale_.mean())
    scale = scale**power * scale.mean() ** (1 - power)
    return (features - scaler.mean_) / scale


def all_fits(features, codes, weights):
    """Probabilities and loss on rows left out, of every scaling and penalty."""
    order = np.argsort(codes, kind="stable")
    fold_of = np.empty(len(codes), dtype=int)
    fold_of[order] = np.arange(len(codes)) % 3
    for power in (1.0, 0.5):
        table = scaled(features, weights, power)
        for C in np.logspace(-4, 0, 9):
            loss = 0
            for fold in range(3):
                learn, look = fold_of != fold, fold_of == fold
                model = LogisticRegression(C=C, max_iter=1000)
                model.fit(table[learn], codes[learn], sample_weight=weights[learn])
                found = model.predict_proba(table[look])
                loss += log_loss(codes[look], found, sample_weight=weights[look], normalize=False)
            model = LogisticRegression(C=C, max_iter=1000).fit(table, codes, sample_weight=weights)
            yield model.predict_proba(table), loss


def assert_is_the_best_fit(found, codes, weights, features=FEATURES):
    fits = list(all_fits(features, codes, weights))
    least = min(loss for _, loss in fits)
    of_found = [loss for expected, loss in fits if np.abs(expected - found).max() < 1e-3]
    assert of_found
    assert min(of_found) <= least * 1.001


@pytest.mark.slow
@pytest.mark.parametrize("weights", [UNIFORM, WEIGHTS])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_final_head_is_the_logistic_regression_that_is_best_on_rows_left_out(weights, n_classes):
    codes = np.minimum(CODES, n_classes - 1)
    head = fit_head(FEATURES, one_hot(codes, n_classes), weights, task="classification", final=True)
    scaler = StandardScaler().fit(FEATURES, sample_weight=weights)
    assert_allclose(head.mean, scaler.mean_, rtol=1e-4, atol=1e-5)
    assert_is_the_best_fit(softmax(scores_of(head, FEATURES), axis=1), codes, weights)


WIDE = RNG.normal(size=(30, 200)) * RNG.lognormal(size=200)


@pytest.mark.parametrize("rank", ["full", "deficient"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_coefficients_fitted_in_the_row_space_are_those_of_scikit_learn(n_classes, rank):
    table = WIDE.copy()
    if rank == "deficient":
        table[5:9] = table[:4]
        table[:, ::7] = 0
    codes, weights = np.arange(30) % n_classes, RNG.uniform(0.2, 3, 30)
    space = RowSpace.of(table)
    assert space.rows.shape == (30, 30)
    for C in (1e-3, 1.0):
        how = {"C": C, "solver": "newton-cholesky", "tol": 1e-10}
        expected = LogisticRegression(**how).fit(table, codes, sample_weight=weights)
        found = LogisticRegression(**how).fit(space.rows, codes, sample_weight=weights)
        assert_allclose(space.of_columns(found.coef_), expected.coef_, rtol=0, atol=1e-8)
        assert_allclose(found.intercept_, expected.intercept_, rtol=0, atol=1e-8)


def test_a_table_that_is_not_wide_is_left_as_it_is():
    space = RowSpace.of(FEATURES)
    assert space.rows is FEATURES
    assert space.of_columns(FEATURES) is FEATURES


def test_the_head_of_few_rows_and_many_features_is_the_best_logistic_regression():
    codes = np.arange(30) % 3
    table = (WIDE + 3 * np.eye(3)[codes] @ RNG.normal(size=(3, 200))).astype("float32")
    weights = WEIGHTS[:30]
    head = fit_head(table, one_hot(codes, 3), weights, task="classification", final=True)
    assert head.weight.shape == (3, 200)
    assert_is_the_best_fit(softmax(scores_of(head, table), axis=1), codes, weights, table)


@pytest.mark.slow
def test_a_final_head_of_several_labels_is_one_logistic_regression_for_each():
    labels = np.stack([CODES > 0, FEATURES[:, 4] > -9, CODES > 1], 1).astype(np.float32)
    head = fit_head(FEATURES, labels, WEIGHTS, task="multilabel", final=True)
    found = expit(scores_of(head, FEATURES))
    fits = [list(all_fits(FEATURES, label.astype(int), WEIGHTS)) for label in labels.T]
    of_powers = [[min(several[start : start + 9], key=lambda fit: fit[1]) for several in fits]
                 for start in (0, 9)]  # fmt: skip
    best = min(of_powers, key=lambda fits: sum(loss for _, loss in fits))
    for column, (expected, _) in enumerate(best):
        assert_allclose(found[:, column], expected[:, 1], atol=1e-3)


@pytest.mark.parametrize("weights", [UNIFORM, WEIGHTS])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regression_is_ridge_with_a_penalty_chosen_by_leave_one_out_errors(weights, n_outputs):
    targets = (FEATURES @ RNG.normal(size=(6, n_outputs)) * 0.1).astype(np.float32)
    targets += RNG.normal(size=targets.shape).astype(np.float32) + 3
    head = fit_head(FEATURES, targets, weights, task="regression", final=True)
    tables = [scaled(FEATURES, weights, power) for power in (1.0, 0.5, 0.0)]
    fits = [[ridge(table, y, weights) for y in targets.T] for table in tables]
    errors = [sum(-model.best_score_ for model in models) for models in fits]
    best = int(np.argmin(errors))
    expected = [model.predict(tables[best]) for model in fits[best]]
    assert_allclose(scores_of(head, FEATURES), np.stack(expected, 1), atol=1e-3)


def ridge(table, y, weights):
    return RidgeCV(alphas=np.logspace(-2, 6, 17)).fit(table, y, sample_weight=weights)


def left_out_error(predict, y, weights):
    """Weighted mean square of the errors of rows that a fit without them predicts."""
    errors = [y[i] - predict(np.arange(len(y)) != i, i) for i in range(len(y))]
    return np.mean(weights * np.square(errors))


@pytest.mark.parametrize("weights", [UNIFORM, WEIGHTS])
def test_numbers_without_a_pattern_are_predicted_by_their_weighted_mean(weights):
    rng = np.random.RandomState(1)
    noise = rng.normal(5, 2, N)
    signal = 0.1 * FEATURES[:, 2] + rng.normal(size=N) * 0.2
    head = fit_head(FEATURES, np.stack([noise, signal], 1), weights, task="regression", final=True)
    assert_array_equal(head.weight[0].detach(), np.zeros(6))
    assert_allclose(head.bias[0].item(), np.average(noise, weights=weights), rtol=1e-6)
    assert head.weight[1].abs().max() > 0.1
    # As brute force has it: no penalty is better than the mean for the one, and some for the other.
    table = scaled(FEATURES, weights, 1.0)

    def by_mean(y):
        return lambda kept, i: np.average(y[kept], weights=weights[kept])

    def by_ridge(y, alpha):
        def predict(kept, i):
            model = Ridge(alpha).fit(table[kept], y[kept], sample_weight=weights[kept])
            return model.predict(table[i : i + 1])[0]

        return predict

    for y, learns in ((noise, False), (signal, True)):
        of_mean = left_out_error(by_mean(y), y, weights)
        of_ridge = min(left_out_error(by_ridge(y, a), y, weights) for a in (1.0, 1e2, 1e4, 1e6))
        assert (of_ridge < of_mean) == learns


def test_a_row_that_has_more_of_a_rare_feature_is_not_far_away():
    features = np.column_stack([FEATURES, np.where(np.arange(N) == 3, 1e-4, 0)]).astype("float32")
    deviations = features.std(0, dtype=np.float64)
    new = features[:1].copy()
    new[0, -1] = 1.0  # ten thousand times as much as any row so far
    assert 1 / deviations[-1] > 9e4
    for task, values in (("classification", one_hot(CODES, 3)), ("regression", FEATURES[:, :1])):
        head = fit_head(features, values, UNIFORM, task=task, final=True)
        assert head.scale[-1] >= 0.1 * deviations.mean() * 0.999
        assert np.abs(scores_of(head, new) - scores_of(head, features[:1])).max() < 0.1


def test_a_feature_that_is_rounding_has_no_say_where_all_features_are_nearly_constant():
    rng = np.random.RandomState(0)
    features = (7 + 1e-6 * rng.normal(size=(N, 4))).astype(np.float32)
    head = fit_head(features, FEATURES[:, :1], UNIFORM, task="regression", final=True)
    assert_allclose(head.scale, 16 * np.finfo(np.float32).eps * 7, rtol=1e-3)


@pytest.mark.slow
def test_a_head_to_begin_with_is_less_sure_than_a_final_one():
    values = one_hot(CODES, 3)
    final, first = (
        softmax(scores_of(head, FEATURES), axis=1)
        for head in (
            fit_head(FEATURES, values, UNIFORM, task="classification", final=final)
            for final in (True, False)
        )
    )
    assert first.max(1).mean() < final.max(1).mean() - 0.05


def test_a_head_to_begin_with_does_not_blow_up_what_hardly_moves():
    head = fit_head(FEATURES, one_hot(CODES, 3), UNIFORM, task="regression")
    std = FEATURES.astype(np.float64).std(0)
    assert_allclose(head.scale, np.maximum(std, 0.1 * std.mean()), rtol=1e-5)
    assert (head.scale.numpy() > std + 1e-6).any()


def test_features_keep_some_of_their_scale_where_that_predicts_better():
    rng = np.random.RandomState(0)
    codes = np.arange(60) % 2
    noise = rng.normal(size=(60, 200)) * 0.1  # much of it, and small
    signal = 3 * (2 * codes - 1)[:, None] + rng.normal(size=(60, 2)) * 2
    for noisy, power in ((noise, 0.5), (noise * 30, 1.0)):
        features = np.hstack([signal * (1 if power < 1 else 0.03), noisy]).astype(np.float32)
        if power == 1.0:
            features = np.hstack([signal * 0.03, rng.normal(size=(60, 2)) * 30]).astype(np.float32)
        head = fit_head(features, one_hot(codes, 2), np.ones(60), task="classification", final=True)
        std = features.astype(np.float64).std(0)
        std = np.maximum(std, 0.1 * std.mean())
        assert_allclose(head.scale, std**power * std.mean() ** (1 - power), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
@pytest.mark.parametrize("final", [True, False])
def test_rows_of_weight_zero_are_as_if_they_were_not_there(task, final):
    weights = np.where(np.arange(N) % 3 == 0, 0, WEIGHTS).astype(np.float32)
    kept = weights > 0
    noisy = np.where(kept[:, None], FEATURES, FEATURES * 100 + 7).astype(np.float32)
    values = one_hot(np.where(kept, CODES, 2 - CODES), 3)
    head = fit_head(noisy, values, weights, task=task, final=final)
    alone = fit_head(FEATURES[kept], values[kept], weights[kept], task=task, final=final)
    for name, tensor in alone.state_dict().items():
        assert_allclose(head.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0, 1, 3])
@pytest.mark.parametrize("by_weight", [True, False])
def test_a_class_without_rows_is_improbable_and_leaves_the_others_as_they_are(missing, by_weight):
    present = np.setdiff1d(np.arange(4), missing)
    weights = UNIFORM
    values = one_hot(present[CODES], 4)
    features = FEATURES
    if by_weight:  # it has rows, which do not count
        values = np.concatenate([values, one_hot([missing] * 5, 4)])
        features = np.concatenate([FEATURES, FEATURES[:5]])
        weights = np.concatenate([UNIFORM, np.zeros(5, dtype=np.float32)])
    head = fit_head(features, values, weights, task="classification", final=True)
    scores = scores_of(head, FEATURES)
    assert softmax(scores, axis=1)[:, missing].max() < 0.05
    alone = fit_head(FEATURES, one_hot(CODES, 3), UNIFORM, task="classification", final=True)
    assert_allclose(
        softmax(scores[:, present], 1), softmax(scores_of(alone, FEATURES), 1), atol=1e-3
    )


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_a_single_class_in_the_rows_is_what_all_rows_are_predicted_to_be(task):
    values = np.tile(np.float32([0, 1, 0]), (N, 1))
    head = fit_head(FEATURES, values, UNIFORM, task=task)
    scores = scores_of(head, FEATURES)
    if task == "multilabel":
        assert_array_equal(scores > 0, values > 0)
    else:
        assert_array_equal(scores.argmax(1), np.ones(N))
    assert_array_equal(head.weight.detach(), np.zeros((3, 6)))


def test_a_random_head_is_drawn_as_a_linear_layer_is_and_repeatably():
    features = RNG.normal(3, 2, size=(20, 400)).astype(np.float32)
    values = one_hot(np.arange(20) % 10, 10)
    one, same, other = (
        fit_head(
            features,
            values,
            np.ones(20),
            task="classification",
            random=np.random.RandomState(seed),
        )
        for seed in (0, 0, 1)
    )
    weight = one.weight.detach().numpy()
    assert np.abs(weight).max() <= 1 / 20
    assert_allclose([weight.min(), weight.max(), weight.mean()], [-0.05, 0.05, 0], atol=2e-3)
    assert_allclose(weight.std(), torch.nn.Linear(400, 10).weight.std().item(), rtol=0.05)
    assert_array_equal(one.bias.detach(), np.zeros(10))
    assert_array_equal(weight, same.weight.detach())
    assert not np.allclose(weight, other.weight.detach())
    assert_allclose(one.mean, features.mean(0), rtol=1e-5)


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -123.456])
def test_a_feature_that_never_varies_has_no_say(final, task, value):
    features = np.column_stack([FEATURES, np.full(N, value)]).astype(np.float32)
    head = fit_head(features, one_hot(CODES, 3), WEIGHTS, task=task, final=final)
    assert head.scale[-1] > 1e-6
    wiggled = features.copy()
    wiggled[:, -1] += 1e-5  # another batch rounds differently
    assert_allclose(scores_of(head, wiggled), scores_of(head, features), atol=1e-3)


def test_the_raw_head_gives_what_the_head_on_standardised_features_gives():
    head = fit_head(FEATURES, one_hot(CODES, 3), WEIGHTS, task="classification", final=True)
    coef = (head.weight / head.scale).detach().numpy()
    intercept = head.bias.detach().numpy() - coef @ head.mean.numpy()
    assert_allclose(FEATURES @ coef.T + intercept, scores_of(head, FEATURES), atol=1e-3)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_one_row_of_each_class_is_enough(n_classes, final, task):
    features, values = FEATURES[:n_classes], one_hot(np.arange(n_classes), n_classes)
    head = fit_head(features, values, UNIFORM[:n_classes], task=task, final=final)
    assert_array_equal(scores_of(head, features).argmax(axis=1), np.arange(n_classes))
    if task == "classification" and final:
        table = scaled(features, UNIFORM[:n_classes], 1.0)
        expected = LogisticRegression(C=1.0, max_iter=1000).fit(table, np.arange(n_classes))
        found = softmax(scores_of(head, features), axis=1)
        assert_allclose(found, expected.predict_proba(table), atol=1e-3)
