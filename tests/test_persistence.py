"""Estimators saved as a directory and loaded again: what comes back, and what is refused."""

import hashlib
import json
import os
import pickle
import stat
import sys
import threading
import uuid
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.random_projection import GaussianRandomProjection
from torch import nn

from sktransfer import FeatureStore, PretrainedCNNFeatures, Pretraining, RNNSequenceFeatures, _files
from sktransfer.exceptions import WeightsMismatchError
from sktransfer.images.preprocessing import Preprocessing
from sktransfer.images.runner import FailedImage
from sktransfer.persistence import load, save
from tests.helpers.fresh import in_another_process
from tests.helpers.networks import SmallCNN

RNG = np.random.RandomState(0)
SERIES = [RNG.normal(size=(n, 2)).cumsum(0) for n in (20, 3, 1, 50)]
TABLE = pd.DataFrame(RNG.normal(size=(6, 15)), columns=[f"t{i}" for i in range(15)])

IMAGES = {
    "default": PretrainedCNNFeatures(image_size=32, layer=("blocks.3", "penultimate")),
    "random": PretrainedCNNFeatures(
        weights="random", image_size=32, random_state=0, layer="blocks.3", pooling="max"
    ),
    "rows": PretrainedCNNFeatures(image_size=32, image_shape=(8, 8), layer=2, engine="torch"),
}
SEQUENCES = {
    "default": (RNNSequenceFeatures(), SERIES),
    "random": (RNNSequenceFeatures("gru", weights="random", hidden_size=4), SERIES),
    "projected": (RNNSequenceFeatures(output_dim=5, random_state=0), SERIES),
    "table": (RNNSequenceFeatures(views=("z", "g"), pooling="mean+ppv"), TABLE),
    "texts": (RNNSequenceFeatures(weights="random", hidden_size=4), ["a text", "and one more"]),
    "pretrained": (
        RNNSequenceFeatures(pretraining=Pretraining(epochs=1), pooling="attention"),
        SERIES,
    ),
}


def small(**parameters) -> RNNSequenceFeatures:
    given = {"weights": "random", "hidden_size": 4, "views": "z", "pooling": "mean"}
    return RNNSequenceFeatures(**{**given, **parameters})


def round_trip(estimator, folder):
    save(estimator, folder / "saved")
    return load(folder / "saved")


def kept(value, folder):
    """What becomes of a value, which stands where nobody looks at it."""
    return round_trip(Pretraining(epochs=value), folder).epochs


@pytest.fixture
def saved(tmp_path):
    """A directory with a fitted estimator in it."""
    save(small().fit(SERIES), tmp_path / "saved")
    return tmp_path / "saved"


def edit(folder, change):
    """Change the structure in a directory as somebody hostile would."""
    structure = json.loads((folder / "estimator.json").read_text())
    change(structure)
    (folder / "estimator.json").write_text(json.dumps(structure))


def attribute(name, value):
    return lambda structure: structure["estimator"]["state"].update({name: value})


# --- what comes back ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", IMAGES)
def test_image_features_are_the_same_after_a_round_trip(kind, digits, tmp_path):
    images = digits[0][:8]
    X = pd.DataFrame(images.reshape(8, 64)).add_prefix("p") if kind == "rows" else images
    features = clone(IMAGES[kind]).fit(X)
    again = round_trip(features, tmp_path)
    assert_array_equal(again.transform(X), features.transform(X))
    assert_array_equal(again.get_feature_names_out(), features.get_feature_names_out())
    assert repr(again) == repr(features)
    assert vars(again).keys() == vars(features).keys()
    assert again.feature_slices_ == features.feature_slices_
    assert not again.module_.training


@pytest.mark.parametrize("kind", SEQUENCES)
def test_sequence_features_are_the_same_after_a_round_trip(kind, tmp_path):
    estimator, X = SEQUENCES[kind]
    features = clone(estimator).fit(X)
    again = round_trip(features, tmp_path)
    assert_array_equal(again.transform(X), features.transform(X))
    assert_array_equal(again.get_feature_names_out(), features.get_feature_names_out())
    assert vars(again).keys() == vars(features).keys()
    assert repr(again) == repr(features)


@pytest.mark.slow
def test_a_named_backbone_is_saved_as_a_reference_and_other_weights_as_themselves(digits, tmp_path):
    for kind, least, most in (("default", 0, 20_000), ("random", 10**7, 10**8)):
        save(clone(IMAGES[kind]).fit(digits[0][:2]), tmp_path / kind)
        size = sum(file.stat().st_size for file in (tmp_path / kind).iterdir())
        assert least < size < most


def test_a_loaded_estimator_can_be_saved_fitted_and_cloned(saved, tmp_path):
    features = load(saved)
    twice = round_trip(features, tmp_path / "again")
    assert_array_equal(twice.transform(SERIES), features.transform(SERIES))
    assert clone(features).get_params() == features.get_params()
    assert features.fit(SERIES[::-1]).transform(SERIES).shape == twice.transform(SERIES).shape


def loaded_features(path):
    return load(path).transform([[1.0, 2.0, 4.0], [0.0, 1.0]])


@pytest.mark.slow
def test_an_estimator_is_loaded_in_another_process(saved):
    save(small().fit([[1.0, 2.0]]), saved)
    found = in_another_process(loaded_features, saved)
    assert_allclose(found, loaded_features(saved), rtol=1e-4, atol=1e-6)


def test_an_unfitted_estimator_comes_back_unfitted(tmp_path):
    estimator = PretrainedCNNFeatures(
        weights=tmp_path / "w.pth",
        layer=("blocks.1", -1),
        value_range=(0, np.inf),
        cache=FeatureStore(tmp_path / "store", memory_bytes=5),
        random_state=np.random.RandomState(3),
    )
    again = round_trip(estimator, tmp_path)
    assert not hasattr(again, "module_")
    expected = estimator.get_params()
    found = again.get_params()
    assert found.pop("random_state").randint(10**9) == expected.pop("random_state").randint(10**9)
    assert found == expected
    assert type(found["weights"]) is type(expected["weights"])


@pytest.mark.slow
def test_one_estimator_may_hold_another(digits, tmp_path):
    features = clone(IMAGES["random"]).fit(digits[0][:4])
    for holder in (Pretraining(FrozenEstimator(features)), Pretraining([{"in": features}])):
        inner = round_trip(holder, tmp_path).objective
        inner = inner[0]["in"] if isinstance(inner, list) else inner
        assert_array_equal(inner.transform(digits[0][:4]), features.transform(digits[0][:4]))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**70),
        1.5e-300,
        float("inf"),
        -0.0,
        'text "ä\n\ud800',
        b"",
        b"\x00\xff",
        (1, (2, ["3", ()])),
        {"b": 1, "a": {2: None, "2": b"x"}, True: (), (1, b"k"): b"v"},
        {"a", "b", 3},
        frozenset({1.5}),
        slice(1, None, 2),
        Path("a/b"),
        Preprocessing(size=(3, 4)),
        FailedImage(3, None, "broken"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_come_back_equal_and_of_the_same_type(value, tmp_path):
    found = kept(value, tmp_path)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value) or isinstance(value, set | frozenset)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int8).reshape(2, 3),
        np.array([[1.5, np.nan], [-0.0, np.inf]]).T,
        np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::2],
        np.array(2.5, dtype=np.float16),
        np.empty((0, 3), dtype=np.uint64),
        np.array([True, False]),
        np.arange(3, dtype=">i4"),
        np.array([["ab", "c"], ["", "d"]]),
        np.array(["b", "c"], dtype=">U7"),
        np.array("word"),
        np.array(["a", 1, 2.5, True, None, np.float32(3)], dtype=object),
        np.empty((0, 2), dtype=object),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_keep_values_shape_dtype_and_memory_order(array, tmp_path):
    found = kept(array, tmp_path)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.flags.fnc == array.flags.fnc
    assert found.flags.writeable
    assert_array_equal(found, array)
    assert [type(item) for item in found.ravel()] == [type(item) for item in array.ravel()]


@pytest.mark.parametrize(
    "scalar",
    [np.float32(0.1), np.float64("nan"), np.int16(-3), np.bool_(True), np.str_("word")],
    ids=repr,
)
def test_numpy_scalars_keep_their_dtype(scalar, tmp_path):
    found = kept(scalar, tmp_path)
    assert type(found) is type(scalar)
    assert repr(found) == repr(scalar)


def test_arrays_that_joblib_maps_into_memory_are_saved(tmp_path):
    joblib.dump(Pretraining(epochs=np.arange(5.0)), tmp_path / "pickle")
    mapped = joblib.load(tmp_path / "pickle", mmap_mode="r")
    assert isinstance(mapped.epochs, np.memmap)
    assert type(round_trip(mapped, tmp_path).epochs) is np.ndarray


# --- without code ---------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_is_pickled(digits, tmp_path, monkeypatch):
    features = [clone(IMAGES["random"]).fit(digits[0][:2]), small(output_dim=3).fit(SERIES)]

    def refuse(*args, **kwargs):
        raise AssertionError("something was pickled")

    for module, name in (
        *((pickle, name) for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler")),
        *((torch, name) for name in ("save", "load")),
        *((joblib, name) for name in ("dump", "load")),
    ):
        monkeypatch.setattr(module, name, refuse)
    for estimator in features:
        assert type(round_trip(estimator, tmp_path)) is type(estimator)


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "sklearn.linear_model:LogisticRegression",
        "sktransfer:FeatureStore",  # where it is shown, not where it is defined
        "sktransfer.__main__:main",
        "sktransfer.persistence:subprocess",
        "sktransfer.persistence:shutil",
        "sktransfer.persistence:load",
        "sktransfer.persistence:_Decoder",
        "sktransfer.features.image:Path",
        "sktransfer.features.image:PretrainedCNNFeatures.fit",
        "sktransfer.features.image:BaseEstimator",
        "sktransfer.features.image:__dict__",
        "sktransfer.features.sequence:Shape",
        "sktransfer.sequences.recurrent:RecurrentNetwork",
        "sktransfer.nowhere:Thing",
        "sktransfer..features:Thing",
        "sktransferred.image:Thing",
        "sktransfer.features.image:PretrainedCNNFeatures\n",
        "",
        None,
        3,
        ["os:system"],
    ],
    ids=repr,
)
def test_only_our_own_classes_that_hold_data_can_be_named(name, saved):
    before = set(sys.modules)
    edit(saved, attribute("cache", {"type": "object", "class": name, "state": {"x": 1}}))
    with pytest.raises(ValueError, match=r"saved cannot be loaded: "):
        load(saved)
    assert "sktransfer.__main__" not in set(sys.modules) - before


OURS = "sktransfer.images.runner:FailedImage"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"type": "object", "class": OURS, "state": {"index": 1}},
            r"FailedImage lacks the fields \['mess",
        ),
        ({"type": "object", "class": OURS, "state": [1]}, "AttributeError"),
        (
            {
                "type": "object",
                "class": "sktransfer.store.feature_store:FeatureStore",
                "state": {"path": "x", "memory_bytes": 1, "_folder": 2},
            },
            r"has unknown \['_folder'\]",
        ),
        (
            {"type": "object", "class": "sklearn.frozen:FrozenEstimator", "state": {}},
            r"lacks the fields \['estimator'\]",
        ),
        (
            {"type": "object", "class": "sktransfer.sequences.recurrent:Shape", "state": {}},
            "Shape lacks",
        ),
        ({"type": "eval", "items": ["1"]}, "unknown type 'eval'"),
        ({"type": ["tuple"]}, "TypeError"),
        ({"no": "type"}, "unknown type None"),
        ({"type": "tuple"}, "KeyError"),
        ({"type": "tuple", "items": "text"}, "not a list"),
        ({"type": "set", "items": [[]]}, "unhashable"),
        ({"type": "dict", "items": [[1]]}, "length 1"),
        ({"type": "slice", "items": []}, "slice"),
        ({"type": "path", "value": 3}, "TypeError"),
        ({"type": "float", "value": "one"}, "could not convert"),
        ({"type": "bytes", "tensor": "nowhere"}, "lacks 'nowhere'"),
        ({"type": "bytes", "tensor": []}, "TypeError"),
        ({"type": "array", "dtype": "<f4", "tensor": "nowhere", "order": "C"}, "lacks 'nowhere'"),
        ({"type": "array", "dtype": "<f4"}, "KeyError"),
        ({"type": "array", "dtype": "|V8", "items": [], "shape": [0]}, r"unknown dtype '\|V8'"),
        ({"type": "array", "dtype": "<U3", "items": [1], "shape": [1]}, "unknown dtype"),
        ({"type": "array", "dtype": "O", "items": [1], "shape": [10**12]}, "reshape"),
        ({"type": "array", "dtype": f"<U{10**12}", "items": [""], "shape": [1]}, "unknown dtype"),
    ],
    ids=str,
)
def test_a_malformed_value_is_a_value_error(node, message, saved):
    edit(saved, attribute("cache", node))
    with pytest.raises(ValueError, match=rf"(?s)saved cannot be loaded: .*{message}"):
        load(saved)


@pytest.mark.parametrize("position", [-1, 625, 10**9, "5"])
def test_a_random_state_cannot_read_beyond_its_numbers(position, tmp_path):
    save(Pretraining(epochs=np.random.RandomState(0)), tmp_path / "saved")

    def change(structure):
        inner = dict(structure["estimator"]["state"]["epochs"]["state"]["items"])
        assert inner["state"]["items"][1][0] == "pos"
        inner["state"]["items"][1][1] = position

    edit(tmp_path / "saved", change)
    with pytest.raises(ValueError, match="invalid state of a RandomState"):
        load(tmp_path / "saved")


@pytest.mark.parametrize("network", [None, 3, "text", [1, 2], {"type": "tuple", "items": [1, 2]}])
def test_a_fitted_estimator_with_something_else_for_its_network_is_not_a_surprise(network, saved):
    edit(saved, attribute("_network", network))
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(saved)


@pytest.mark.parametrize("estimator", [None, [], 3, {"type": "tuple", "items": []}])
def test_what_is_saved_must_be_an_estimator(estimator, saved):
    edit(saved, lambda structure: structure.update(estimator=estimator))
    with pytest.raises(ValueError, match="holds a .*, not an estimator"):
        load(saved)


# --- damaged, foreign and newer files -------------------------------------------------------


@pytest.mark.parametrize("n_bytes", [0, 4, 100, -1])
def test_truncated_tensors_are_reported(n_bytes, saved):
    file = saved / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match="tensors.safetensors is damaged"):
        load(saved)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    edit(saved, lambda structure: structure.update(tensors_sha256=sha256))
    with pytest.raises(ValueError, match="SafetensorError"):
        load(saved)


def test_a_missing_tensor_is_reported_by_its_name(saved):
    file = saved / "tensors.safetensors"
    tensors = safetensors.numpy.load_file(file)
    name = next(name for name in tensors if "_network" in name)
    del tensors[name]
    file.write_bytes(safetensors.numpy.save(tensors))
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    edit(saved, lambda structure: structure.update(tensors_sha256=sha256))
    with pytest.raises(ValueError, match=r"tensors.safetensors lacks .*_network\[2\]"):
        load(saved)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"format": "1"}', '{"format": 1}', "[" * 10**5, "\xff"]
)
def test_a_damaged_structure_is_reported(text, saved):
    (saved / "estimator.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="saved cannot be loaded"):
        load(saved)


def test_a_newer_format_is_refused_with_the_version_to_update_to(saved):
    edit(saved, lambda structure: structure.update(format=2, sktransfer="7.5", estimator="?"))
    with pytest.raises(ValueError, match=r"format 2 by sktransfer 7\.5.*update"):
        load(saved)


def test_what_a_file_of_an_older_version_lacks_has_its_default(tmp_path):
    features = small(on_error="nan", output_dim=3).fit(SERIES)
    save(features, tmp_path / "features")

    def make_older(structure):
        state = structure["estimator"]["state"]
        for name in ("on_error", "n_thresholds"):
            del state[name]
        for name in ("backward", "history"):
            del state["fitted_"]["state"][name]

    edit(tmp_path / "features", make_older)
    again = load(tmp_path / "features")
    assert (again.on_error, again.n_thresholds, again.history_) == ("raise", 4, [])
    np.testing.assert_array_equal(again.transform(SERIES), features.transform(SERIES))


def test_versions_are_noted(saved):
    structure = json.loads((saved / "estimator.json").read_text())
    assert structure["format"] == 1
    assert {"sktransfer", "scikit-learn", "torch"} <= structure.keys()


def test_another_version_of_scikit_learn_is_warned_of_where_it_matters(saved, tmp_path):
    edit(saved, lambda structure: structure.update({"scikit-learn": "0.1"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(saved)
    projected = tmp_path / "projected"
    features = small(output_dim=3).fit(SERIES)
    expected = features.transform(SERIES)
    seed = features.fitted_.projection.seed
    older = GaussianRandomProjection(3, random_state=seed)  # which such files held
    older.fit(np.zeros((1, features.fitted_.projection.n_features_in), dtype=np.float32))
    features.fitted_ = features.fitted_.replace(projection=older)
    save(features, projected)
    np.testing.assert_array_equal(load(projected).transform(SERIES), expected)
    edit(
        projected,
        lambda structure: structure["estimator"]["state"]["fitted_"]["state"]["projection"][
            "state"
        ].update(_sklearn_version="0.1"),
    )
    with pytest.warns(InconsistentVersionWarning, match="from version 0.1"):
        load(projected)


def test_other_default_weights_are_refused(digits, tmp_path):
    features = PretrainedCNNFeatures(image_size=32).fit(digits[0][:2])
    features.fitted_ = features.fitted_.replace(weights_sha256="0" * 64)
    with pytest.raises(WeightsMismatchError, match="expected 0000"):
        round_trip(features, tmp_path)


def test_what_was_never_saved_is_not_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no directory .*nothing"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="was not written by sktransfer"):
        load(tmp_path)
    joblib.dump(small(), tmp_path / "pickle")
    with pytest.raises(ValueError, match="was not written by sktransfer"):
        load(tmp_path / "pickle")


# --- what cannot be saved -------------------------------------------------------------------


class Mine(RNNSequenceFeatures):
    """A class that is not of the package."""


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (
            PretrainedCNNFeatures(lambda: SmallCNN()),
            r"PretrainedCNNFeatures\.backbone is a function, which a file without code cannot "
            "hold; use pickle or joblib, or give the backbone by name",
        ),
        (
            PretrainedCNNFeatures(SmallCNN),
            r"\.backbone is the class tests\.helpers\.networks\.SmallCNN, ",
        ),
        (RNNSequenceFeatures(nn.GRU(2, 3)), r"\.backbone is a torch\S*\.GRU, "),
        (
            Pretraining([{"a": (1, print)}]),
            r"Pretraining\.objective\[0\]\['a'\]\[1\] is a function, .* pickle or joblib$",
        ),
        (Pretraining(small(pretraining=Mine())), r"\.objective\.pretraining is a .*\.Mine, "),
        (Pretraining(LogisticRegression()), r"\.objective is a sklearn\.\S*\.LogisticRegression,"),
        (Pretraining(np.random.default_rng(0)), r"\.objective is a numpy\.\S*\.Generator, "),
        (Pretraining(np.array([1j])), r"\.objective is of dtype complex128, which the format "),
        (Pretraining(np.array([print])), r"\.objective\[0\] is a function"),
        (Pretraining(np.longdouble(1)), r"\.objective is of dtype \S*, which the format"),
        (
            Pretraining(np.random.RandomState(np.random.PCG64(0))),
            r"\.objective is a RandomState of PCG64",
        ),
        (Pretraining(torch.zeros(1)), r"\.objective is a torch\.Tensor, "),
        (Mine(), r"estimator must be one of sktransfer's own, got a .*\.Mine; use pickle or"),
        (make_pipeline(small()), r"sktransfer's own, got a sklearn\.pipeline\.Pipeline"),
        (RNNSequenceFeatures, r"sktransfer's own, got the class sktransfer.*RNNSequenceFeatures"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_needs_code_is_refused_by_its_place_and_nothing_is_written(
    estimator, message, tmp_path
):
    with pytest.raises(TypeError, match=message):
        save(estimator, tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_ones_own_is_refused_after_fit_too(colour, tmp_path):
    with pytest.raises(TypeError, match=r"PretrainedCNNFeatures\.backbone is the class"):
        save(PretrainedCNNFeatures(SmallCNN).fit(colour), tmp_path / "saved")


# --- the directory --------------------------------------------------------------------------


def test_an_estimator_that_was_saved_is_replaced_and_nothing_is_left_over(saved):
    save(small(hidden_size=7).fit(SERIES), saved)
    assert load(saved).hidden_size == 7
    assert sorted(item.name for item in saved.iterdir()) == [
        "estimator.json",
        "tensors.safetensors",
    ]
    assert [item.name for item in saved.parent.iterdir()] == ["saved"]


def test_missing_folders_above_are_made(tmp_path):
    save(small(), tmp_path / "a" / "b")
    assert load(str(tmp_path / "a" / "b")).hidden_size == 4


def test_the_directory_has_the_usual_permissions(saved):
    usual = saved.parent / "usual"
    usual.mkdir()
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


@pytest.mark.parametrize("kind", ["file", "empty", "folder"])
def test_what_was_not_saved_is_not_replaced(kind, tmp_path):
    path = tmp_path / "mine"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
        if kind == "folder":
            (path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="mine exists and was not written by"):
        save(small(), path)
    assert [item.name for item in tmp_path.iterdir()] == ["mine"]
    assert kind != "folder" or (path / "thesis.tex").read_text() == "precious"


def test_other_files_beside_an_estimator_are_not_deleted(saved):
    (saved / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="but also holds thesis.tex"):
        save(small(), saved)
    assert (saved / "thesis.tex").exists()
    assert load(saved).hidden_size == 4


@pytest.mark.parametrize("fails", ["write_bytes", "rename"])
def test_a_failure_leaves_the_old_estimator_and_nothing_else(fails, saved, monkeypatch):
    original = getattr(Path, fails)

    def fail(self, *args):
        if fails == "write_bytes" and self.name == "estimator.json":
            return original(self, *args)
        if fails == "rename" and not self.name.endswith(".new"):
            return original(self, *args)
        raise OSError("the disk is full")

    monkeypatch.setattr(_files, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, fails, fail)
    with pytest.raises(OSError, match="the disk is full"):
        save(small(hidden_size=7).fit(SERIES), saved)
    monkeypatch.undo()
    assert load(saved).hidden_size == 4
    assert [item.name for item in saved.parent.iterdir()] == ["saved"]


def test_loading_while_others_save_gives_one_estimator_or_the_other(saved):
    done = threading.Event()
    estimators = [small(hidden_size=n).fit(SERIES) for n in (3, 5)]
    loaded = []

    def load_again():
        while not done.is_set():
            loaded.append(load(saved).hidden_size)

    loader = threading.Thread(target=load_again)
    loader.start()
    for i in range(30):
        save(estimators[i % 2], saved)
    done.set()
    loader.join()
    assert len(loaded) > 3
    assert {*loaded} <= {4, 3, 5}


def test_an_estimator_is_loaded_if_its_replacement_was_killed_between_two_renames(saved):
    saved.rename(saved.with_name(".saved.sktransfer.old"))
    assert load(saved).hidden_size == 4
    save(small(hidden_size=7), saved)
    assert load(saved).hidden_size == 7
    assert [item.name for item in saved.parent.iterdir()] == ["saved"]


def test_what_a_crash_of_an_earlier_version_left_is_named_and_then_removed(saved):
    kept = saved.with_name(f".{saved.name}.{'0' * 32}.old")
    kept.mkdir()
    (kept / "notes.txt").touch()  # of somebody else
    leftover = saved.with_name(f".{saved.name}.{uuid.uuid4().hex}.old")
    saved.rename(leftover)
    with pytest.raises(FileNotFoundError, match=rf"left what was in it as .*{leftover.name}"):
        load(saved)
    save(load(leftover), saved)
    assert {*saved.parent.iterdir()} == {saved, kept}


def test_two_do_not_save_to_one_place_at_once(saved):
    with _files.replacing_folder(saved) as folder:
        with pytest.raises(RuntimeError, match="another process is writing .*saved; wait for it"):
            save(small(hidden_size=7), saved)
        for item in saved.iterdir():
            (folder / item.name).write_bytes(item.read_bytes())
    assert load(saved).hidden_size == 4


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_stays_a_link(saved):
    link = saved.parent / "latest"
    link.symlink_to(saved)
    save(small(hidden_size=7), link)
    assert link.is_symlink()
    assert load(link).hidden_size == load(saved).hidden_size == 7
