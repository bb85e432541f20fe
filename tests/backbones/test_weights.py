"""Weights files: what is read, what is refused, and that nothing is executed."""

import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sktransfer import PretrainedCNNFeatures, PretrainedTextFeatures, RNNSequenceFeatures
from sktransfer.backbones.weights import (
    bytes_to_state,
    check_sha256,
    check_weights,
    fit_weights,
    module_to_bytes,
    read_weights,
)
from sktransfer.exceptions import WeightsMismatchError
from tests.helpers.languages import TEXTS, write_language
from tests.helpers.networks import SmallCNN


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
def test_every_kind_of_file_gives_the_same_tensors(suffix, tmp_path):
    state = SmallCNN().state_dict()
    path = tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert same(read_weights(path)[0], dict(state))


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_training_checkpoint_is_unwrapped(key, tmp_path):
    state = SmallCNN().state_dict()
    torch.save({key: state, "epoch": 3}, tmp_path / "checkpoint.pth")
    assert same(read_weights(tmp_path / "checkpoint.pth")[0], dict(state))


class Module(nn.Module):
    """Has a part that goes by the name which DataParallel gives to a network."""

    def __init__(self):
        super().__init__()
        self.module = SmallCNN()

    def forward(self, x):
        return self.module(x)


class Holder(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.model = net


COMPILED = "_orig_mod."


@pytest.mark.parametrize(
    ("target", "prefix"),
    [
        *(
            (SmallCNN, p)
            for p in ("", "module.", COMPILED, "model.", "model.net.", "module.model.")
        ),
        *((Module, p) for p in ("", "module.", COMPILED, "model.")),
    ],
)
def test_a_prefix_of_all_tensors_is_dropped_where_all_then_fit(target, prefix):
    source, network = target(), target()
    fit_weights(network, {prefix + n: t for n, t in source.state_dict().items()}, "the net")
    assert same(network.state_dict(), source.state_dict())


@pytest.mark.parametrize("wrap", [nn.DataParallel, Holder])
def test_a_file_of_the_network_itself_fits_its_wrapper(wrap):
    source, network = SmallCNN(), wrap(SmallCNN())
    fit_weights(network, source.state_dict(), "the net")
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.state_dict().values(), source.state_dict().values(), strict=True)
    )


def test_the_prefix_of_a_compiled_part_is_dropped_inside_names():
    source, network = Module(), Module()
    state = {n.replace("module.", "module._orig_mod."): t for n, t in source.state_dict().items()}
    fit_weights(network, state, "the net")
    assert same(network.state_dict(), source.state_dict())


def test_a_prefix_that_only_some_tensors_have_is_named_and_not_dropped():
    state = {f"student.{n}": t for n, t in SmallCNN().state_dict().items()}
    state["loss.weight"] = torch.ones(4)
    with pytest.raises(WeightsMismatchError, match=r"set weights_prefix='student\.'"):
        fit_weights(SmallCNN(), state, "the net")


@pytest.mark.parametrize("name", ["head.conv.weight", "conv.weigth"])
def test_a_prefix_with_which_not_all_tensors_fit_stays(name):
    state = {f"module.{n}": t for n, t in SmallCNN().state_dict().items()}
    state[f"module.{name}"] = state.pop("module.conv.weight")
    with pytest.raises(WeightsMismatchError, match=r"4 missing.*4 unknown: module\.") as caught:
        fit_weights(SmallCNN(), state, "the net")
    assert "weights_prefix" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning", "ignore::DeprecationWarning")
def test_a_torchscript_file_is_recognised(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "net.pt")
    with pytest.raises(WeightsMismatchError, match=r"compiled program.*network\.state_dict\(\)"):
        read_weights(tmp_path / "net.pt")


class Attack:
    """Unpickling this runs a command."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    target = str(tmp_path / "owned")
    torch.save({"weight": Attack(target)}, tmp_path / "attack.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Attack(target), protocol=2))
    for name in ("attack.pth", "plain.pth"):
        with pytest.raises(WeightsMismatchError, match="not a file of plain tensors"):
            read_weights(tmp_path / name)
    assert not os.path.exists(target)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"hello", b"PK\x03\x04 truncated"])
def test_a_damaged_file_is_refused_by_name(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsMismatchError, match=name):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(3), SmallCNN().state_dict])
def test_a_file_of_anything_but_named_tensors_is_refused(content, tmp_path):
    torch.save(content() if callable(content) else content, tmp_path / "x.pth")
    if callable(content):
        assert read_weights(tmp_path / "x.pth")[0]
        return
    with pytest.raises(WeightsMismatchError, match="not a dict of tensors"):
        read_weights(tmp_path / "x.pth")


def test_the_refusal_of_a_pickle_does_not_recommend_the_unsafe_way(tmp_path):
    torch.save({"weight": Attack("x")}, tmp_path / "attack.pth")
    with pytest.raises(WeightsMismatchError) as caught:
        read_weights(tmp_path / "attack.pth")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("weights", [None, 3, ["net.pth"]])
def test_weights_that_are_no_path_are_refused(weights):
    with pytest.raises(TypeError, match="weights must be 'default', 'random' or the path"):
        read_weights(weights)


@pytest.mark.parametrize("expected", ["", "1", 5, "not hexadecimal", "0" * 65])
def test_a_pin_is_a_hash_or_at_least_eight_digits_of_it(expected):
    with pytest.raises(ValueError, match="weights_sha256 must be a SHA-256"):
        check_sha256("0" * 64, expected, "the file")


def test_the_hash_is_checked_before_the_file_is_read(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"garbage")
    with pytest.raises(WeightsMismatchError, match="expected 12345678"):
        read_weights(tmp_path / "net.pth", "12345678")


def test_a_mismatch_lists_what_is_missing_unknown_and_misshapen():
    state = dict(SmallCNN().state_dict())
    state["extra"] = state.pop("conv.bias")
    state["linear.weight"] = torch.zeros(9, 6)
    with pytest.raises(WeightsMismatchError) as caught:
        fit_weights(SmallCNN(), state, "the net")
    message = str(caught.value)
    assert "1 missing: conv.bias" in message
    assert "1 unknown: extra" in message
    assert "linear.weight (9, 6) for (4, 6)" in message


def test_a_network_with_a_plain_state_dict_loads_from_a_file(tmp_path):
    class Plain(SmallCNN):
        def state_dict(self, *args, **kwargs):
            return dict(super().state_dict(*args, **kwargs))

    source, target = Plain(), Plain()
    torch.save(source.state_dict(), tmp_path / "net.pth")
    fit_weights(target, read_weights(tmp_path / "net.pth")[0], "the net")
    assert torch.equal(target.conv.weight, source.conv.weight)


def test_versioned_parts_load_from_files_without_versions(tmp_path):
    from torchvision.models import mnasnet0_5

    source, target = (nn.Sequential(mnasnet0_5(num_classes=2)) for _ in range(2))
    save_file(source.state_dict(), tmp_path / "net.safetensors")
    fit_weights(target, read_weights(tmp_path / "net.safetensors")[0], "the net")
    assert same(source.state_dict(), target.state_dict())


def test_tied_weights_survive_the_way_through_bytes():
    def tied():
        net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        net[1].weight = net[0].weight
        return net

    source, target = tied(), tied()
    fit_weights(target, bytes_to_state(module_to_bytes(source)), "the net")
    assert torch.equal(target[0].weight, source[0].weight)
    assert target[1].weight is target[0].weight


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_weight_that_is_no_number_is_named(value):
    network = SmallCNN()
    with torch.no_grad():
        network.linear.weight[1, 2] = value
    with pytest.raises(WeightsMismatchError, match=r"of mine hold NaN or infinity in 'linear.wei"):
        check_weights(network, "mine")


def test_large_weights_and_masks_of_infinity_are_numbers():
    network = nn.Linear(3, 3)
    with torch.no_grad():
        network.weight[:] = 3e38  # their sum is infinite
    network.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    check_weights(network, "mine")
    network.mask[0, 0] = torch.nan
    with pytest.raises(WeightsMismatchError, match="in 'mask'"):
        check_weights(network, "mine")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.complex64, torch.bool])
def test_tensors_of_another_kind_of_number_are_refused(dtype):
    network = SmallCNN()
    state = network.state_dict() | {"conv.weight": network.conv.weight.to(dtype)}
    with pytest.raises(WeightsMismatchError, match=rf"'conv.weight' is of type {dtype}"):
        fit_weights(network, state, "mine")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_precision_are_taken(dtype):
    source, network = SmallCNN(), SmallCNN()
    fit_weights(network, {n: t.to(dtype) for n, t in source.state_dict().items()}, "mine")
    assert torch.allclose(network.conv.weight, source.conv.weight, atol=1e-2)


def broken(network):
    with torch.no_grad():
        next(network.parameters())[:] = torch.nan
    return network


def test_weights_that_are_nan_are_refused_in_fit_whatever_the_network_is_for(digits, tmp_path):
    images, series = digits[0][:4], np.random.default_rng(0).normal(size=(4, 20))
    save_file(broken(SmallCNN()).state_dict(), tmp_path / "net.safetensors")
    features = PretrainedCNNFeatures(SmallCNN, weights=tmp_path / "net.safetensors", image_size=8)
    with pytest.raises(WeightsMismatchError, match="of SmallCNN hold NaN or infinity in 'conv.wei"):
        features.fit(images)
    with pytest.raises(WeightsMismatchError, match="of SmallCNN hold NaN"):
        PretrainedCNNFeatures(broken(SmallCNN()), image_size=8).fit(images)
    with pytest.raises(WeightsMismatchError, match="of GRU hold NaN or infinity in 'weight_ih_l0"):
        RNNSequenceFeatures(broken(nn.GRU(1, 3))).fit(series)
    folder = write_language(tmp_path / "language")
    state = load_file(folder / "model.safetensors")
    state["encoder.layer.1.output.dense.weight"][0, 0] = torch.nan
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match=r"NaN or infinity in 'encoder.layer.1.output"):
        PretrainedTextFeatures(folder).fit(TEXTS)


class Logarithm(nn.Module):
    """Of an input that may be negative."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 2)

    def forward(self, x):
        return self.linear(torch.log(x.mean((1, 2, 3))[:, None] if x.ndim == 4 else x.mean(1)))


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_a_network_that_puts_out_nan_is_named_as_that(engine, colour):
    features = PretrainedCNNFeatures(Logarithm, image_size=8, mean=0.5, std=1, engine=engine)
    with pytest.raises(ValueError, match=r"network puts out NaN or infinity for X\[0\]"):
        features.fit_transform(colour // 4)


def test_a_network_for_series_that_puts_out_nan_for_noise_is_named_as_that():
    with pytest.raises(ValueError, match="backbone puts out NaN or infinity for noise of 5 steps"):
        RNNSequenceFeatures(Logarithm).fit(np.ones((2, 5)))
