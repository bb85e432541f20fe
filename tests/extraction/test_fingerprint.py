"""A hash changes exactly when the features would."""

import copy
import functools
import logging
import os
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sktransfer import load_backbone
from sktransfer.extraction import fingerprint
from sktransfer.extraction.fingerprint import network_fingerprint, sample_of
from sktransfer.extraction.hooks import Tap, hooked
from tests.networks import Projected, SmallCNN


def sample_key(item):
    sample = sample_of(item, max_pixels=10_000)
    return None if sample is None else sample.key


def test_arrays_are_known_by_type_shape_and_values():
    base = np.arange(12, dtype=np.uint8).reshape(3, 4)
    keys = [
        sample_key(item)
        for item in (
            base,
            base.reshape(4, 3),
            base.T.copy(),
            base.astype(np.int8),
            base.astype(float),
            base + 1,
        )
    ]
    assert len(set(keys)) == len(keys)
    same = [base.copy(), np.asfortranarray(base), torch.from_numpy(base), base.tolist()]
    assert [sample_key(item) == keys[0] for item in same] == [True, True, True, False]
    assert sample_key(base[:, ::-1][:, ::-1]) == keys[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, bool])
def test_rows_of_an_array_have_the_keys_of_single_images(dtype, monkeypatch):
    monkeypatch.setattr(fingerprint, "_MAX_ROW_BYTES", 50)
    array = np.random.RandomState(0).randint(0, 2, (30, 3, 4)).astype(dtype)
    array[7] = array[3]
    for X in (array, array[::-2], array[:, ::-1], array):
        assert [s.key for s in fingerprint.samples_of_rows(X)] == [sample_key(x) for x in X]


def test_pictures_are_known_by_all_that_decides_their_pixels():
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    palette = grey.convert("P")
    other_palette = palette.copy()
    other_palette.putpalette([0, 128, 255] * 256)
    turned = grey.copy()
    turned.getexif()[0x0112] = 6
    transparent = palette.copy()
    transparent.info["transparency"] = 3
    pictures = [grey, palette, other_palette, turned, transparent, grey.convert("RGB")]
    keys = [sample_key(picture) for picture in pictures]
    assert len(set(keys)) == len(keys)
    assert sample_key(grey.copy()) == keys[0]


def test_files_are_known_by_content_not_by_name(tmp_path, colour):
    Image.fromarray(colour[0]).save(tmp_path / "a.png")
    (tmp_path / "b.bin").write_bytes((tmp_path / "a.png").read_bytes())
    Image.fromarray(colour[1]).save(tmp_path / "c.png")
    a, b, c = (sample_key(tmp_path / name) for name in ("a.png", "b.bin", "c.png"))
    assert a == b == sample_key(str(tmp_path / "a.png"))
    assert a != c


def test_a_file_that_changes_has_another_key_even_within_its_time_stamp(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one")
    first = sample_key(path)
    stamp = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert sample_key(path) != first


def test_a_file_at_rest_is_hashed_once(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"content")
    monkeypatch.setattr(fingerprint, "_SETTLED_SECONDS", 0.05)
    time.sleep(0.1)
    key = sample_key(path)
    hashed = []
    digest = fingerprint.hashlib.file_digest
    monkeypatch.setattr(
        fingerprint.hashlib, "file_digest", lambda *args: hashed.append(1) or digest(*args)
    )
    assert sample_key(path) == key
    assert not hashed
    path.write_bytes(b"changed")
    assert sample_key(path) != key
    assert hashed


def test_what_is_no_regular_file_or_too_large_a_picture_has_no_key(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    large = Image.new("L", (101, 100))
    for item in (tmp_path / "pipe", tmp_path / "empty", tmp_path, "/dev/zero", large):
        assert sample_key(item) is None


@pytest.mark.parametrize("item", [None, "absent.png", float("nan"), object(), "", np.array("x")])
def test_what_cannot_be_read_has_no_key(item):
    assert sample_key(item) is None


def fingerprint_of(module):
    return network_fingerprint(module, "weights")


def test_copies_and_pickles_of_a_network_have_one_fingerprint():
    torch.manual_seed(0)
    for module in (Projected(), load_backbone("resnet18", "random", random_state=0).module):
        expected = fingerprint_of(module)
        assert fingerprint_of(copy.deepcopy(module)) == expected
        assert fingerprint_of(pickle.loads(pickle.dumps(module))) == expected


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
