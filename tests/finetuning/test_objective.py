"""Losses against torch's, torchvision's and closed forms."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot
from torchvision.ops import sigmoid_focal_loss

from sktransfer.finetuning.batches import ArrayInputs, Batches, TrainingRows
from sktransfer.finetuning.network import LinearHead, NetworkOutput
from sktransfer.finetuning.objective import Objective, TaskLoss
from sktransfer.finetuning.targets import encode_targets

DRAW = torch.Generator().manual_seed(0)
SCORES = 3 * torch.randn(40, 4, generator=DRAW)
CODES = torch.randint(0, 4, (40,), generator=DRAW)
LABELS = (torch.rand(40, 4, generator=DRAW) < 0.3).float()
HOT = one_hot(CODES, 4).float()
SHARES = torch.tensor([0.7, 0.2, 0.06, 0.04])


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_the_focal_loss_of_several_labels_is_that_of_torchvision(gamma):
    found = TaskLoss("multilabel", 0.0, gamma=gamma)(SCORES, LABELS)
    expected = sigmoid_focal_loss(SCORES, LABELS, alpha=-1, gamma=gamma).mean(1)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_of_two_classes_is_that_of_torchvision_for_the_difference(gamma):
    found = TaskLoss("classification", 0.0, gamma=gamma)(SCORES[:, :2], one_hot(CODES % 2).float())
    difference = SCORES[:, 1] - SCORES[:, 0]
    expected = sigmoid_focal_loss(difference, (CODES % 2).float(), alpha=-1, gamma=gamma)
    assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_the_focal_loss_of_classes_is_the_equation_of_the_paper(gamma):
    p = SCORES.double().softmax(1)[torch.arange(40), CODES]
    expected = -((1 - p) ** gamma) * p.log()
    assert_allclose(
        TaskLoss("classification", 0.0, gamma=gamma)(SCORES, HOT), expected, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_a_gamma_of_zero_is_the_cross_entropy(task, smoothing):
    values = HOT if task == "classification" else LABELS
    found = TaskLoss(task, smoothing, gamma=0.0)(SCORES, values)
    if task == "classification":
        expected = cross_entropy(SCORES, CODES, reduction="none", label_smoothing=smoothing)
    else:
        smooth = values * (1 - smoothing) + smoothing / 2
        expected = binary_cross_entropy_with_logits(SCORES, smooth, reduction="none").mean(1)
    assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_smoothed_labels_of_the_focal_loss_share_its_terms(task):
    values = HOT if task == "classification" else LABELS
    n_options = 4 if task == "classification" else 2
    smooth = values * 0.8 + 0.2 / n_options
    if task == "classification":
        p = SCORES.double().softmax(1)
        expected = -(smooth * (1 - p) ** 2 * p.log()).sum(1)
    else:
        p = SCORES.double().sigmoid()
        yes, no = smooth * (1 - p) ** 2 * p.log(), (1 - smooth) * p**2 * (1 - p).log()
        expected = -(yes + no).mean(1)
    assert_allclose(TaskLoss(task, 0.2, gamma=2.0)(SCORES, values), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_a_row_that_is_certain_has_a_finite_focal_loss_and_gradient(task, gamma):
    scores = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    values = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    losses = TaskLoss(task, 0.0, gamma=gamma)(scores, values)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert scores.grad.isfinite().all()
    assert losses[0] == 0
    assert losses[1] > 100


def test_the_logit_adjusted_loss_is_the_equation_of_the_paper():
    # Menon et al. 2021, equation 10: log(1 + sum over y' of pi_y' / pi_y exp(f_y' - f_y)).
    found = TaskLoss("classification", 0.0, shift=SHARES.log())(SCORES, HOT)
    f, pi = SCORES.double(), SHARES.double()
    own = torch.arange(40), CODES
    ratios = pi / pi[CODES][:, None] * (f - f[own][:, None]).exp()
    ratios[own] = 0
    assert_allclose(found, torch.log1p(ratios.sum(1)), rtol=1e-4)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_adjustment_is_a_shift_of_the_scores(task, smoothing):
    values = HOT if task == "classification" else LABELS
    shift = torch.tensor([0.3, -2.0, 1.0, 0.0])
    for training in (True, False):
        adjusted = TaskLoss(task, smoothing, shift=shift).train(training)
        plain = TaskLoss(task, smoothing).train(training)
        assert_allclose(adjusted(SCORES, values), plain(SCORES + shift, values), rtol=1e-6)


def test_a_linear_model_of_the_logit_adjusted_loss_is_that_of_cross_entropy_less_log_shares():
    rng = np.random.default_rng(0)
    codes = rng.choice(3, 300, p=[0.85, 0.1, 0.05])
    X = torch.from_numpy(rng.normal(size=(300, 2)) + codes[:, None]).double()
    values = one_hot(torch.from_numpy(codes), 3).double()
    shares = values.mean(0)
    models = []
    for shift in (None, shares.log()):
        loss, layer = TaskLoss("classification", 0.0, shift=shift), torch.nn.Linear(2, 3).double()
        exact = {"tolerance_grad": 1e-12, "tolerance_change": 1e-14}
        steps = torch.optim.LBFGS(
            layer.parameters(), max_iter=500, line_search_fn="strong_wolfe", **exact
        )

        def closure(loss=loss, layer=layer, steps=steps):
            steps.zero_grad()
            # Without a small penalty a constant could be added to all weights.
            value = loss(layer(X), values).mean() + 1e-6 * (layer(X).sum(1) ** 2).mean()
            value.backward()
            return value

        steps.step(closure)
        models.append(layer)
    with torch.no_grad():
        plain, adjusted = (layer(X).log_softmax(1) for layer in models)
        expected = (plain - shares.log()).log_softmax(1)
    assert_allclose(adjusted, expected, atol=2e-4)


def test_mixup_blends_the_adjusted_and_focal_losses_of_both_labels():
    for loss in (
        TaskLoss("classification", 0.1, gamma=2.0),
        TaskLoss("classification", 0.1, shift=SHARES.log()),
    ):
        weights, others = torch.rand(40, generator=DRAW), torch.rand(40, generator=DRAW)
        target = {
            "values": HOT,
            "weights": weights,
            "labelled": torch.ones(40, dtype=torch.bool),
            "other_values": HOT.flip(0),
            "other_weights": others,
            "share": torch.full((40,), 0.3),
        }
        found = Objective(loss, None, 0.0, None, 0.0, 5)(NetworkOutput(SCORES, SCORES), target)
        mixed = 0.3 * weights * loss(SCORES, HOT) + 0.7 * others * loss(SCORES, HOT.flip(0))
        assert_allclose(found, mixed.mean(), rtol=1e-5)


class Ragged(ArrayInputs):
    """Rows that are not blended on their way in."""

    mixable = False


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_mixup_of_scores_is_mixup_of_features(task):
    draw = np.random.RandomState(0)
    features = draw.normal(size=(40, 5)).astype("f4")
    y = {
        "classification": draw.randint(0, 3, 40),
        "multilabel": draw.randint(0, 2, (40, 3)),
        "regression": draw.normal(size=(40, 3)),
    }[task]
    targets = encode_targets(y, n_rows=40, sample_weight=np.arange(1.0, 41))
    head = LinearHead(*draw.normal(size=(2, 5)), draw.normal(size=(3, 5)), draw.normal(size=3))
    objective = Objective(TaskLoss(task, 0.1), None, 0, None, 0, 5).train()
    losses = []
    for kind in (ArrayInputs, Ragged):
        rows = TrainingRows(kind(features, (5,)), targets, np.arange(40), seed=0, mixup=0.5)
        losses.append([])
        for batch, target in Batches(rows, 10):
            standardised = head.standardise(batch)
            output = NetworkOutput(head(standardised), standardised)
            losses[-1].append(float(objective(output, target).detach()))
    assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert np.std(losses[0]) > 0
