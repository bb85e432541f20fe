"""Reading inputs and outputs of modules while a network runs."""

import copy
import threading

import pytest
import torch
from torch import nn

from sktransfer.networks.hooks import Tap, drop_hooks, hooked, is_ours
from tests.helpers.networks import Repeated, SmallCNN

X = torch.ones(1, 3, 4, 4)


def test_outputs_and_inputs_of_modules_are_read_in_the_order_in_which_they_run():
    network, seen = SmallCNN(), []
    taps = {Tap("conv"), Tap("linear", "input"), Tap("linear")}
    with hooked(network, taps, lambda tap, value: seen.append((tap, value))):
        found = network(X)
    assert [tap for tap, _ in seen] == [Tap("conv"), Tap("linear", "input"), Tap("linear")]
    conv, before, after = (value for _, value in seen)
    assert torch.equal(conv, network.conv(X))
    assert torch.equal(network.linear(before), after)
    assert after is found


def test_a_module_that_runs_three_times_is_read_three_times():
    network, seen = Repeated(), []
    with hooked(network, {Tap("conv")}, lambda tap, value: seen.append(value)):
        network(X)
    assert len(seen) == 3


def test_an_input_may_be_given_by_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Double()

        def forward(self, x):
            return self.inner(x=x)

    class Double(nn.Module):
        def forward(self, x):
            return 2 * x

    network, seen = Named(), []
    with hooked(network, {Tap("inner", "input")}, lambda tap, value: seen.append(value)):
        network(X)
    assert len(seen) == 1
    assert seen[0] is X


def test_hooks_are_gone_afterwards_also_after_an_error():
    network = SmallCNN()

    def fail(tap, value):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"), hooked(network, {Tap("conv")}, fail):
        network(X)
    assert not network.conv._forward_hooks
    network(X)


def test_what_another_thread_runs_is_not_read():
    network, seen = SmallCNN(), []
    with hooked(network, {Tap("conv")}, lambda tap, value: seen.append(value)):
        thread = threading.Thread(target=network, args=(X,))
        thread.start()
        thread.join()
        assert seen == []
        network(X)
    assert len(seen) == 1


def test_a_copy_made_meanwhile_keeps_the_hooks_of_its_owner_alone():
    network, calls = SmallCNN(), []
    network.conv.register_forward_hook(lambda *_: calls.append(1))
    with hooked(network, {Tap("conv"), Tap("linear", "input")}, lambda tap, value: None):
        ours = [is_ours(hook) for hook in network.conv._forward_hooks.values()]
        copied = copy.deepcopy(network)
    assert ours == [False, True]
    assert not is_ours(3)
    drop_hooks(copied)
    assert len(copied.conv._forward_hooks) == 1
    assert not copied.linear._forward_pre_hooks
    copied(X)
    assert calls == [1]
