"""The loss of a batch."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sktransfer.finetuning.batches import ArrayInputs, Batches, TrainingRows
from sktransfer.finetuning.network import LinearHead, NetworkOutput
from sktransfer.finetuning.objective import Objective, TaskLoss
from sktransfer.finetuning.targets import encode_targets


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
