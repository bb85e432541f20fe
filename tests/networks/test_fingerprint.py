"""A hash changes exactly when the features would."""

import copy
import functools
import logging
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from sktransfer import load_backbone
from sktransfer.networks.fingerprint import network_fingerprint
from sktransfer.networks.hooks import Tap, hooked
from tests.helpers.networks import Projected, SmallCNN


def fingerprint_of(module):
    return network_fingerprint(module, "weights")


@pytest.mark.slow
def test_copies_and_pickles_of_a_network_have_one_fingerprint():
    torch.manual_seed(0)
    for module in (Projected(), load_backbone("resnet18", "random", random_state=0).module):
        expected = fingerprint_of(module)
        assert fingerprint_of(copy.deepcopy(module)) == expected
        assert fingerprint_of(pickle.loads(pickle.dumps(module))) == expected


@pytest.mark.slow
def test_another_process_finds_the_same_fingerprint():
    code = (
        "from sktransfer import load_backbone as load\n"
        "print(load('efficientnet_lite0').fingerprint)\n"
        "print(load('shufflenet_v2_x0_5', 'random', random_state=0).fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    run = [sys.executable, "-c", code]
    printed = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == [
        load_backbone("efficientnet_lite0").fingerprint,
        load_backbone("shufflenet_v2_x0_5", "random", random_state=0).fingerprint,
    ]


def test_whatever_changes_the_features_changes_the_fingerprint():
    torch.manual_seed(0)
    module = Projected()
    seen = {fingerprint_of(module), network_fingerprint(module, "other weights")}

    def changed(change):
        other = copy.deepcopy(module)
        change(other)
        before = len(seen)
        seen.add(fingerprint_of(other))
        return len(seen) == before + 1

    def closure(factor):
        return lambda x: x * factor

    class Slotted:
        __slots__ = ("value",)

        def __init__(self, value):
            self.value = value

    assert changed(lambda m: m.projection.mul_(2))  # a buffer outside the state dict
    assert changed(lambda m: setattr(m, "scale", m.scale * 2))  # a tensor that is an attribute
    assert changed(lambda m: setattr(m.conv, "stride", (2, 2)))
    assert changed(lambda m: setattr(m, "pool", nn.AdaptiveMaxPool2d(1)))
    values = [3.0, np.float32(1), np.float32(2), torch.relu, torch.tanh, closure(1), closure(2)]
    values += [lambda x: x + 1, lambda x: x + 2, lambda x, *, f=1: x * f, lambda x, *, f=2: x * f]
    values += [Slotted(1), Slotted(2), range(2), range(3), functools.partial(max, 1), np.sin]
    values += [[[[[[[1]]]]]], [[[[[[2]]]]]], {"a": {"b": {"c": {"d": {"e": 1}}}}}, {1, 2}, {1, 3}]
    values += [[nn.Conv2d(3, 4, 1)], [nn.Conv2d(3, 4, 1)], torch.eye(2).to_sparse()]
    values += [torch.ones(2).to_sparse(), np.array([None, "a"]), np.array([None, "b"])]
    for value in values:
        assert changed(lambda m, value=value: setattr(m, "_private", value)), value
    assert changed(lambda m: m.register_forward_hook(lambda m, i, o: o + 1))
    assert changed(lambda m: m.conv.register_forward_pre_hook(lambda m, i: (i[0] + 1,)))


@pytest.mark.parametrize(
    "value",
    [
        *[1.5, "a", (1, 2), np.arange(3), {"k": [1, {2}]}, torch.eye(2).to_sparse()],
        logging.getLogger("a.b"),
        np.array([None, "a"], dtype=object),
        torch.empty(3, device="meta"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_copies_of_attributes_change_nothing(value):
    torch.manual_seed(0)
    module = SmallCNN()
    module.attribute = value
    expected = fingerprint_of(module)
    assert fingerprint_of(copy.deepcopy(module)) == expected
    assert fingerprint_of(pickle.loads(pickle.dumps(module))) == expected


def test_what_cannot_be_looked_into_is_never_the_same():
    module = SmallCNN()
    module.lock = threading.Lock()
    assert fingerprint_of(module) != fingerprint_of(module)


def test_an_attribute_that_holds_itself_ends():
    module = SmallCNN()
    module.loop = [module]
    module.loop.append(module.loop)
    assert fingerprint_of(module) == fingerprint_of(module)


def test_hooks_of_a_pass_in_another_thread_do_not_count():
    module = SmallCNN()
    before = fingerprint_of(module)
    with hooked(module, {Tap("conv")}, lambda tap, value: None):
        assert fingerprint_of(module) == before


def test_a_decorated_forward_is_looked_into():
    def network(factor):
        class Net(SmallCNN):
            @torch.no_grad()
            def forward(self, x):
                return super().forward(x) * factor

        torch.manual_seed(0)
        return Net()

    assert fingerprint_of(network(1)) == fingerprint_of(network(1))
    assert fingerprint_of(network(1)) != fingerprint_of(network(2))


def test_another_forward_under_the_same_name_is_another_network():
    def network(body):
        scope = {"SmallCNN": SmallCNN}
        exec(f"class Net(SmallCNN):\n    def forward(self, x):\n        return {body}", scope)
        scope["Net"].__module__ = "somewhere"
        return scope["Net"]()

    one, two, three = (
        network(body) for body in ("super().forward(x)", "super().forward(x) * 2", "x + x")
    )
    assert len({fingerprint_of(m) for m in (one, two, three)}) == 3
    assert fingerprint_of(network("x + x")) == fingerprint_of(three)


def test_a_recurrent_network_has_the_same_fingerprint_every_time():
    torch.manual_seed(0)
    network = nn.LSTM(2, 3)
    first = network_fingerprint(network, "weights")
    assert network_fingerprint(network, "weights") == first
    assert network_fingerprint(copy.deepcopy(network), "weights") == first
    assert network_fingerprint(network, "other weights") != first
    assert network_fingerprint(nn.LSTM(2, 3, bidirectional=True), "weights") != first


def test_a_traced_graph_of_any_length_has_a_fingerprint_of_its_operations():
    torch.manual_seed(0)
    net = resnet18().eval()
    graph, same, other = (
        create_feature_extractor(net, ["layer1", layer]) for layer in ("layer4", "layer4", "layer3")
    )
    assert fingerprint_of(graph) == fingerprint_of(pickle.loads(pickle.dumps(graph)))
    assert fingerprint_of(graph) == fingerprint_of(same) != fingerprint_of(other)


def test_a_network_whose_attributes_refer_to_each_other_without_end_is_unique():
    class Part:
        others = ()

    parts = [Part() for _ in range(30)]
    for number, part in enumerate(parts):
        part.others = parts[number + 1 :]  # two to the power of 30 ways
    module = SmallCNN()
    module.parts = parts
    assert fingerprint_of(module) != fingerprint_of(module)
