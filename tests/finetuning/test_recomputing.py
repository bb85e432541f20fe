"""Activation checkpointing of the stages of a network."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from sktransfer.finetuning.network import LinearHead, TunedNetwork
from tests.helpers.languages import LABELS, TEXTS, write_language
from tests.helpers.networks import TwoStages


class Deep(nn.Module):
    """A stage with many layers of the same width, the first of which may work in place."""

    def __init__(self, in_place=False, depth=12):
        super().__init__()
        layers = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.GELU()) for _ in range(depth)]
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.first = nn.Sequential(nn.ReLU(inplace=in_place), *layers)
        self.second = nn.Conv2d(4, 8, 3, stride=2)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.second(self.first(self.stem(x))).mean((2, 3)))


class InPlaceDeep(Deep):
    """Its first stage changes what the stem has put out."""

    def __init__(self):
        super().__init__(in_place=True)


def network_of(make, recompute, layer="penultimate", batch_norm="frozen"):
    """A network of digits' size with a head, all of it trained."""
    torch.manual_seed(0)
    features = PretrainedCNNFeatures(make(), layer=layer, image_size=16, engine="torch")
    body = features.fit(np.zeros((2, 16, 16), dtype=np.uint8)).__tuning_source__().body()
    n_features = len(features.get_feature_names_out())
    rng = np.random.RandomState(0)
    head = LinearHead(
        np.zeros(n_features), np.ones(n_features), rng.randn(3, n_features), np.zeros(3)
    )
    return TunedNetwork(body, head, tuple(body.stages.of), batch_norm, None, recompute=recompute)


def step_of(network, x):
    """Loss, gradients, buffers and bytes that are kept for the backward pass."""
    kept = []

    def pack(tensor):
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    network.train()
    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = network(x).scores.square().sum()
    n_bytes = sum(kept)
    loss.backward()
    gradients = {
        name: parameter.grad
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    return loss.detach(), gradients, dict(network.named_buffers()), n_bytes


@pytest.mark.parametrize("batch_norm", ["frozen", "update"])
@pytest.mark.parametrize("layer", ["penultimate", "second", "second.1", "first.0"])
def test_gradients_and_statistics_are_the_same_with_dropout_and_batch_norm(layer, batch_norm):
    x = torch.randn(6, 1, 16, 16, generator=torch.manual_seed(0))
    plain, recomputed = (
        step_of(network_of(TwoStages, recompute, layer, batch_norm), x)
        for recompute in (False, True)
    )
    assert plain[0] == recomputed[0]
    assert plain[1].keys() == recomputed[1].keys()
    for name in plain[1]:
        assert_array_equal(plain[1][name], recomputed[1][name], err_msg=name)
    for name in plain[2]:
        assert_array_equal(plain[2][name], recomputed[2][name], err_msg=name)


def test_what_is_inside_a_stage_is_not_kept():
    x = torch.randn(6, 3, 16, 16, generator=torch.manual_seed(0))
    plain, recomputed = (step_of(network_of(Deep, recompute), x) for recompute in (False, True))
    for name in plain[1]:
        assert_array_equal(plain[1][name], recomputed[1][name], err_msg=name)
    # The stage has 12 layers of two operations.
    assert recomputed[3] < plain[3] / 5


def test_an_input_that_is_overwritten_in_place_is_an_error_and_no_wrong_gradient():
    x = torch.randn(6, 3, 16, 16, generator=torch.manual_seed(0))
    step_of(network_of(InPlaceDeep, False), x)
    with pytest.raises(ValueError, match="Sequential was changed in place"):
        step_of(network_of(InPlaceDeep, True), x)


def test_modules_have_their_own_forward_again_after_a_pass_and_after_an_error():
    network = network_of(Deep, True)
    own = [dict(vars(module)) for module in network.body.module.modules()]
    step_of(network, torch.randn(2, 3, 16, 16))
    with pytest.raises(RuntimeError):
        network(torch.randn(2, 5, 16, 16))
    for module, before in zip(network.body.module.modules(), own, strict=True):
        assert ("forward" in vars(module)) == ("forward" in before)


@pytest.mark.slow
def test_a_training_of_texts_is_the_same(tmp_path):
    folder = write_language(tmp_path / "bert")
    found = [
        FineTunedClassifier(
            PretrainedTextFeatures(folder),
            strategy=FineTune(
                "all", epochs=2, batch_size=8, guard=False, recompute_activations=recompute
            ),
            random_state=0,
        )
        .fit(TEXTS * 2, LABELS * 2)
        .predict_proba(TEXTS)
        for recompute in (False, True)
    ]
    assert_array_equal(*found)


def test_a_recurrent_network_says_that_it_has_no_stages_to_run_again():
    strategy = FineTune("all", epochs=1, guard=False, recompute_activations=True)
    classifier = FineTunedClassifier(
        RNNSequenceFeatures(weights="random", hidden_size=4, random_state=0), strategy=strategy
    )
    with pytest.raises(ValueError, match="recompute_activations=True needs a network that runs"):
        classifier.fit(np.random.RandomState(0).randn(8, 10), [0, 1] * 4)
