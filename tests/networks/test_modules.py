"""Networks in evaluation mode, whoever made them."""

import copy
import pickle

import joblib
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures
from sktransfer.networks.modules import copied, evaluate, frozen, packed, unpacked
from tests.helpers.networks import SmallCNN, TwoStages


class Silent(TwoStages):
    """Its `train` returns nothing, and leaves a part in training mode."""

    def train(self, mode=True):
        super().train(mode)
        self.second[3].train()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight


def extractor():
    """A graph with dropout and batch norm, whose copies are in training mode."""
    return create_feature_extractor(TwoStages().eval(), ["second"])


def graph():
    return torch.fx.symbolic_trace(TwoStages().eval())


@pytest.mark.parametrize("make", [extractor, graph, Silent])
@pytest.mark.parametrize(
    "again", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), copied]
)
def test_no_part_of_a_frozen_network_trains_whatever_it_came_from(make, again):
    made = again(make())
    module = frozen(made)
    assert module is made
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_copy_is_in_evaluation_mode_and_computes_the_same():
    network = extractor()
    x = torch.randn(2, 1, 16, 16)
    duplicate = copied(network)
    assert not any(part.training for part in duplicate.modules())
    assert torch.equal(duplicate(x)["second"], network(x)["second"])


def test_a_copy_shares_what_it_is_told_to_share():
    network = SmallCNN()
    shared = {id(tensor): tensor for tensor in network.parameters()}
    duplicate = copied(network, shared)
    assert duplicate.conv is not network.conv
    assert duplicate.conv.weight is network.conv.weight


def test_a_network_made_in_inference_mode_is_copied_with_its_ties():
    with torch.inference_mode():
        network = Tied()
    module = frozen(network)
    assert not any(parameter.is_inference() for parameter in module.parameters())
    assert module.second.weight is module.first.weight


def test_evaluation_mode_is_set_in_parts_alone():
    network = SmallCNN().eval()
    network.pool.train()
    evaluate(network)
    assert not network.pool.training


def test_a_network_whose_train_returns_nothing_is_used_pickled_and_tuned(digits):
    X, y = digits[0][:40], digits[1][:40] % 2
    features = PretrainedCNNFeatures(Silent(), image_size=16, engine="torch").fit(X)
    expected = features.transform(X)
    assert (pickle.loads(pickle.dumps(features)).transform(X) == expected).all()
    assert (features.transform(X) == expected).all()  # dropout is off
    first = FineTunedClassifier(features, strategy=FineTune("all", epochs=1), random_state=0)
    first.fit(X, y)
    second = FineTunedClassifier(
        features, strategy=FineTune("head", epochs=1), start_from=first, random_state=0
    ).fit(X, y)
    for fitted in (first, second):
        assert not any(part.training for part in fitted.features_.module_.modules())


def test_weights_to_start_from_are_copied_in_evaluation_mode(digits):
    X, y = digits[0][:30], digits[1][:30] % 2
    features = PretrainedCNNFeatures(
        extractor(), image_size=16, engine="torch", layer="second.1", random_state=0
    ).fit(X)
    tuned = FineTunedClassifier(
        features, strategy=FineTune("head", epochs=1), start_from=features, random_state=0
    ).fit(X, y)
    assert not any(part.training for part in tuned.features_.module_.modules())
    assert_allclose(tuned.features_.transform(X), features.transform(X), rtol=1e-5)


# --- pickles --------------------------------------------------------------------------------------


class Mixed(Tied):
    """Weights with ties and in several layouts, and tensors in no state dict."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.rnn = nn.LSTM(3, 2, bidirectional=True)
        self.register_buffer("short", torch.rand(3).bfloat16(), persistent=False)
        self.register_buffer("nothing", torch.empty(0, 2))
        self.register_buffer("count", torch.tensor(7))
        self.plain = torch.rand(2)


def test_a_packed_network_is_the_same_in_every_tensor_tie_and_layout():
    network = Mixed()
    found = unpacked(pickle.loads(pickle.dumps(packed(network))))
    for tensors in (nn.Module.named_parameters, nn.Module.named_buffers):
        expected = dict(tensors(network))
        assert dict(tensors(found)).keys() == expected.keys()
        for name, tensor in tensors(found):
            assert torch.equal(tensor, expected[name])
            assert tensor.dtype == expected[name].dtype
            assert tensor.stride() == expected[name].stride()
    assert torch.equal(found.plain, network.plain)
    assert found.second.weight is found.first.weight
    x = torch.rand(5, 1, 3)
    assert torch.equal(found.rnn(x)[0], network.rnn(x)[0])


def test_copies_of_a_network_have_one_hash_when_they_are_packed():
    network = TwoStages()
    assert joblib.hash(packed(copy.deepcopy(network))) == joblib.hash(packed(network))
    other = TwoStages()
    assert joblib.hash(packed(other)) != joblib.hash(packed(network))


def test_tensors_that_are_more_than_numbers_travel_as_themselves():
    network = SmallCNN()
    network.register_buffer("sparse", torch.eye(3).to_sparse())
    found = unpacked(pickle.loads(pickle.dumps(packed(network))))
    assert torch.equal(found.sparse.to_dense(), torch.eye(3))
    assert torch.equal(found.conv.weight, network.conv.weight)
