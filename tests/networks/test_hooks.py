"""Reading inputs and outputs of modules while a network runs."""

import copy
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from sktransfer.networks.hooks import Tap, drop_hooks, hooked, is_ours, undisturbed
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


# --- several threads ----------------------------------------------------------------------------


def in_threads(works, switch_interval=1e-6):
    """Run functions together, the interpreter changing threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(switch_interval)
    try:
        with ThreadPoolExecutor(len(works)) as pool:
            return [each.result() for each in [pool.submit(work) for work in works]]
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("same", [True, False], ids=["one tap", "different taps"])
def test_threads_read_what_they_run_themselves_however_they_take_turns(same):
    network = SmallCNN().eval()

    def read(number):
        taps = {Tap("conv"), Tap("pool", "input")} if same or number % 2 else {Tap("pool")}
        for turn in range(40):
            x = torch.full((1, 3, 4, 4), float(number + turn))
            seen = {}
            with torch.inference_mode(), hooked(network, taps, seen.__setitem__):
                network(x)
            assert seen.keys() == taps
            if Tap("conv") in taps:
                assert torch.equal(seen[Tap("conv")], network.conv(x))
        return True

    assert all(in_threads([lambda number=number: read(number) for number in range(6)]))
    assert not network.conv._forward_hooks
    assert not network.pool._forward_pre_hooks


def test_a_network_is_read_from_one_tap_by_two_threads_at_once():
    network, met = SmallCNN(), threading.Barrier(2, timeout=20)

    def read():
        with hooked(network, {Tap("conv")}, lambda tap, value: met.wait()):
            network(X)
        return True

    assert in_threads([read, read]) == [True, True]


def test_no_thread_runs_a_network_that_is_copied():
    network, order = SmallCNN(), []
    inside, copying = threading.Event(), threading.Event()

    def run():
        inside.wait(20)
        copying.set()
        with hooked(network, {Tap("conv")}, lambda tap, value: order.append("run")):
            network(X)

    def duplicate():
        with undisturbed(network):
            inside.set()
            copying.wait(20)
            copied = copy.deepcopy(network)
            order.append("copied")
        return copied

    _, copied = in_threads([run, duplicate])
    assert order == ["copied", "run"]
    assert not copied.conv._forward_hooks


def test_one_who_reads_from_other_taps_gets_a_turn_while_others_come_and_go():
    network, stop = SmallCNN().eval(), threading.Event()

    def often():
        while not stop.is_set():
            with hooked(network, {Tap("conv")}, lambda tap, value: None):
                network(X)

    def once():
        with hooked(network, {Tap("linear")}, lambda tap, value: stop.set()):
            network(X)
        return True

    assert in_threads([often, often, often, once])[-1]
