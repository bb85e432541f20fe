"""The device that a network runs on, now and after unpickling."""

from types import SimpleNamespace

import pytest
import torch

from sktransfer.networks.devices import device_again, resolve_device


def test_auto_finds_a_device_and_a_wrong_name_is_refused():
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("gpu", "cuda:99", 3.5, "meta"):
        with pytest.raises(ValueError, match="cannot be used here"):
            resolve_device(name)


def test_an_estimator_comes_back_to_its_device_or_with_a_warning_to_the_cpu():
    fitted = SimpleNamespace(device="cpu", device_="cpu")
    assert device_again(fitted) == torch.device("cpu")
    elsewhere = SimpleNamespace(device="cuda:99", device_="cuda:99")
    with pytest.warns(UserWarning, match="fitted on device='cuda:99', which this machine lacks"):
        assert device_again(elsewhere) == torch.device("cpu")


def test_auto_is_decided_anew_on_another_machine():
    fitted = SimpleNamespace(device="auto", device_="cuda:99")
    assert device_again(fitted) == resolve_device("auto")
