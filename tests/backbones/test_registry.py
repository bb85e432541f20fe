"""Names, descriptions, and loading by name."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sktransfer import describe_backbone, list_backbones, load_backbone
from sktransfer.backbones.registry import shared_backbone
from sktransfer.exceptions import WeightsMismatchError, WeightsNotFoundError
from sktransfer.networks.early_exit import LayerReader
from tests.helpers.networks import GreyCNN, SmallCNN
from tests.helpers.torch_states import AMBIENT


def test_list_starts_with_the_backbones_that_come_with_pip():
    names = list_backbones()
    assert names[:3] == ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    assert {"vgg16", "resnet18", "resnet50", "vit_b_16", "swin_t"} <= set(names)
    assert "timm/resnet18" in list_backbones("timm/resnet*")


@pytest.mark.parametrize("name", list_backbones())
def test_every_listed_backbone_describes_itself(name):
    info = describe_backbone(name)
    height, width = info.preprocessing.size
    assert 64 <= height == width <= 600
    assert 0.8 < info.preprocessing.crop_pct <= 1
    assert len(info.preprocessing.mean) == len(info.preprocessing.std) == 3
    assert info.preprocessing.interpolation in ("bilinear", "bicubic")
    assert info.license
    assert info.source.startswith("https://")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", "did you mean"),
        ("", "not known"),
        ("timm/resnet5", "timm has no model 'resnet5'"),
        ("hf-hub:org/name", "revision"),
        ("hf-hub:name@main", "hf-hub:<organisation>/<name>@<revision>"),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint(name, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(name)


def test_a_loaded_backbone_is_frozen_and_in_evaluation_mode():
    backbone = load_backbone("efficientnet_lite0")
    assert not backbone.module.training
    assert not any(p.requires_grad for p in backbone.module.parameters())


@pytest.mark.slow
def test_loading_does_not_touch_torchs_generator_and_follows_the_seed():
    before = torch.get_rng_state()
    first, again, other = (
        load_backbone("resnet18", "random", random_state=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256


def test_a_shared_backbone_is_loaded_once():
    cpu = torch.device("cpu")
    first = shared_backbone("efficientnet_lite0", None, cpu)
    assert shared_backbone("efficientnet_lite0", first.weights_sha256, cpu) is first
    with pytest.raises(WeightsMismatchError, match="expected abcabcab"):
        shared_backbone("efficientnet_lite0", "abcabcab", cpu)


def test_your_own_network_comes_as_class_function_or_instance():
    instance = SmallCNN()
    for own in (SmallCNN, lambda: SmallCNN(), instance):
        backbone = load_backbone(own, random_state=0)
        assert isinstance(backbone.module, SmallCNN)
        assert backbone.module is not instance
        assert backbone.info.preprocessing.in_channels == 3
        assert backbone.info.preprocessing.size is None
    assert load_backbone(GreyCNN).info.preprocessing.in_channels == 1


def test_a_factory_may_return_a_network_that_is_in_use():
    net = SmallCNN().train()
    backbone = load_backbone(lambda: net)
    assert backbone.module is not net
    assert net.training
    assert all(p.requires_grad for p in net.parameters())


def test_networks_of_any_precision_compute_in_float32():
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        module = load_backbone(SmallCNN().to(dtype)).module
        assert {p.dtype for p in module.parameters()} == {torch.float32}


@pytest.mark.slow
def test_the_default_dtype_of_torch_does_not_reach_a_backbone():
    torch.set_default_dtype(torch.float64)
    try:
        backbone = load_backbone("resnet18", "random")
        assert backbone.trace((32, 32)).activations["penultimate"].shape == (512,)
    finally:
        torch.set_default_dtype(torch.float32)


def test_batch_norm_without_statistics_is_warned_of():
    def careless():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))

    with pytest.warns(UserWarning, match="depend on the others in its batch"):
        load_backbone(careless)


@pytest.mark.parametrize("tracked", [False, True])
def test_instance_norm_takes_its_statistics_from_one_image_and_is_not_warned_of(tracked):
    def careful():
        norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=tracked)
        return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.Linear(4 * 14 * 14, 2))

    load_backbone(careful)


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(SmallCNN())


def without_values():
    with torch.device("meta"):
        return SmallCNN()


def quantised():
    module = SmallCNN()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = torch.quantize_per_tensor(torch.ones(2), 1, 0, torch.qint8)
    module.register_buffer("table", table)
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (scripted, "TorchScript, whose layers cannot be read; pass the nn.Module"),
        (without_values, "meta device.*build it on the CPU"),
        (quantised, "holds quantised weights.*as it was before"),
    ],
)
def test_networks_whose_layers_cannot_be_read_are_refused_with_the_cure(make, message):
    for backbone in (make, make()):
        with pytest.raises(ValueError, match=message):
            load_backbone(backbone)


@pytest.mark.slow  # importing torch's compiler takes seconds
# torch 2.10 warns of a use of its own.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("wrap", [torch.compile, lambda net: nn.Sequential(torch.compile(net))])
def test_the_network_inside_a_compiled_one_is_read(wrap):
    module = SmallCNN()
    backbone = load_backbone(wrap(module))
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(backbone.module(x), module(x))
    assert any(name.endswith("conv") for name in backbone.trace((8, 8)).activations)
    assert not any("_orig_mod" in name for name, _ in backbone.module.named_modules())


class ByName(SmallCNN):
    def forward(self, *, pixel_values, scale=1.0):
        return super().forward(pixel_values) * scale


class Two(SmallCNN):
    def forward(self, *, left, right):
        return super().forward(left + right)


def test_images_are_passed_by_name_to_a_network_that_takes_them_so():
    backbone = load_backbone(ByName, random_state=0)
    trace, x = backbone.trace((8, 8)), torch.rand(2, 3, 8, 8)
    (found,) = LayerReader(backbone.module, trace, trace.reads(("output",), ("mean",)))(x)
    assert torch.equal(found, backbone.module(pixel_values=x))
    with pytest.raises(ValueError, match="takes left, right, all by name.*wrap it"):
        load_backbone(Two).trace((8, 8))


def test_weights_prefix_takes_some_tensors_of_a_file(tmp_path):
    source = SmallCNN()
    state = {f"student.{n}": t for n, t in source.state_dict().items()}
    torch.save({**state, "teacher.weight": torch.ones(2)}, tmp_path / "both.pth")
    with pytest.raises(WeightsMismatchError, match=r"weights_prefix='student\.'"):
        load_backbone(SmallCNN, tmp_path / "both.pth")
    found = load_backbone(SmallCNN, tmp_path / "both.pth", weights_prefix="student.")
    assert torch.equal(found.module.conv.weight, source.conv.weight)
    with pytest.raises(WeightsMismatchError, match="no tensor in .* begins with weights_prefix"):
        load_backbone(SmallCNN, tmp_path / "both.pth", weights_prefix="other.")


def test_a_named_backbone_takes_wrapped_weights_of_another_number_of_classes(tmp_path):
    from torchvision.models import squeezenet1_1

    source = squeezenet1_1(num_classes=3)
    for prefix in ("module.", "_orig_mod.", "model."):
        state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
        torch.save(state, tmp_path / "net.pth")
        found = load_backbone("squeezenet1_1", tmp_path / "net.pth").module.state_dict()
        assert all(torch.equal(found[name], each) for name, each in source.state_dict().items())


@pytest.mark.slow
def test_random_weights_are_the_same_in_every_thread():
    """Torch's generator is one for all threads."""
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        hashes = list(
            pool.map(
                lambda _: load_backbone("resnet18", "random", random_state=0).weights_sha256,
                range(8),
            )
        )
    assert len(set(hashes)) == 1
    assert torch.equal(before, torch.get_rng_state())


def test_published_weights_draw_nothing_from_numpy():
    before = np.random.get_state()[1].copy()
    load_backbone("efficientnet_lite0")
    assert np.array_equal(np.random.get_state()[1], before)


def test_an_instance_draws_nothing_from_numpy():
    before = np.random.get_state()[1].copy()
    load_backbone(SmallCNN())
    assert np.array_equal(np.random.get_state()[1], before)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_lazy_layers_are_refused_and_normalised_weights_are_not():
    with pytest.raises(ValueError, match="lazy layers"):
        load_backbone(lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))
    assert load_backbone(lambda: nn.utils.weight_norm(nn.Conv2d(3, 4, 1))).module


def test_extra_state_that_is_no_tensor_is_no_obstacle():
    class Extra(SmallCNN):
        def get_extra_state(self):
            return {"note": "x"}

        def set_extra_state(self, state):
            pass

    assert load_backbone(Extra).weights_sha256


def test_a_factory_may_load_a_backbone_itself():
    def headless():
        return nn.Sequential(load_backbone("efficientnet_lite0").module, nn.Softmax(1))

    assert isinstance(load_backbone(headless).module, nn.Sequential)


def test_what_is_no_name_is_refused():
    with pytest.raises(TypeError, match="name must be one of list_backbones"):
        describe_backbone(nn.Conv2d)


@pytest.mark.slow
def test_an_own_timm_network_with_other_input_is_believed_over_its_configuration():
    import timm

    grey = load_backbone(lambda: timm.create_model("resnet18", in_chans=1)).info.preprocessing
    assert (grey.in_channels, len(grey.mean)) == (1, 1)
    small = load_backbone(lambda: timm.create_model("vit_tiny_patch16_224", img_size=64)).info
    assert small.preprocessing.size == (64, 64)


def test_an_own_timm_network_brings_its_preprocessing():
    import timm

    info = load_backbone(lambda: timm.create_model("resnet18")).info
    assert info.preprocessing.size == (224, 224)
    assert info.preprocessing.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (3, "nn.Module"),
        (dict, "must return an nn.Module"),
        (nn.Linear, "without arguments"),
    ],
)
def test_what_is_no_network_is_refused(own, message):
    with pytest.raises(TypeError, match=message):
        load_backbone(own)


def test_random_weights_need_a_network_that_can_be_built_anew():
    with pytest.raises(ValueError, match="SmallCNN instance"):
        load_backbone(SmallCNN(), "random")


def test_weights_come_from_a_file_and_are_named_by_its_hash(tmp_path):
    import hashlib

    source = SmallCNN()
    path = tmp_path / "net.safetensors"
    save_file(source.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    backbone = load_backbone(SmallCNN, path, weights_sha256=digest)
    assert backbone.weights_sha256 == digest
    assert torch.equal(backbone.module.conv.weight, source.conv.weight)
    # The same file without knowing of it: the hash of the state is the hash of the file.
    assert load_backbone(source).weights_sha256 == digest


def test_a_missing_file_is_reported_with_the_alternatives(tmp_path):
    with pytest.raises(WeightsNotFoundError, match="weights='default', 'random'"):
        load_backbone("resnet18", tmp_path / "no.pth")


@pytest.mark.slow
def test_a_fine_tuned_file_with_ten_classes_fits(tmp_path):
    from torchvision.models import resnet18

    source = resnet18(num_classes=10)
    torch.save(source.state_dict(), tmp_path / "ten.pth")
    backbone = load_backbone("resnet18", tmp_path / "ten.pth")
    assert backbone.module.fc.out_features == 10
    assert torch.equal(backbone.module.fc.weight, source.fc.weight)


@pytest.mark.slow
def test_the_weights_of_another_network_are_refused(tmp_path):
    save_file(SmallCNN().state_dict(), tmp_path / "small.safetensors")
    for name in ("resnet18", "efficientnet_lite0", "timm/resnet18"):
        with pytest.raises(WeightsMismatchError, match="do not fit"):
            load_backbone(name, tmp_path / "small.safetensors")


def test_a_backbone_that_was_looked_into_can_be_copied_and_pickled():
    backbone = load_backbone(GreyCNN, random_state=0)
    assert backbone.trace((8, 8)).stages
    for again in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert again.fingerprint == backbone.fingerprint
        assert again.trace((8, 8)).stages == backbone.trace((8, 8)).stages


def test_threads_that_trace_a_network_together_find_its_layers():
    backbone = load_backbone(SmallCNN, random_state=0)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: backbone.trace((8, 8)), range(8)))
    assert all(trace is found[0] for trace in found)


@pytest.mark.parametrize("ambient", AMBIENT)
def test_a_network_is_drawn_and_loaded_alike_under_any_state_of_torch(ambient):
    expected = load_backbone(SmallCNN, "random", random_state=0)
    with AMBIENT[ambient]():
        found = load_backbone(SmallCNN, "random", random_state=0)
    assert found.weights_sha256 == expected.weights_sha256
    assert not any(parameter.is_inference() for parameter in found.module.parameters())
