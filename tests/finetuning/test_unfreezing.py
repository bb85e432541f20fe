"""From ``unfreeze=`` to the names of the weights that are trained."""

import numpy as np
import pytest

from sktransfer.finetuning.unfreezing import Stages, resolve_unfreeze

OF = {
    "stem.weight": 0,
    "blocks.0.conv.weight": 0,
    "blocks.0.bn.weight": 0,
    "blocks.0.bn.bias": 0,
    "blocks.1.conv.weight": 1,
    "blocks.1.bn.weight": 1,
    "blocks.1.bn.bias": 1,
    "blocks.10.conv.weight": 2,
    "norm.weight": 3,
    "norm.bias": 3,
}
STAGES = Stages(("blocks.0", "blocks.1", "blocks.10", "norm"), OF)


def from_stage(first):
    return tuple(name for name, stage in OF.items() if stage >= first)


def test_the_head_alone_names_no_weight_and_all_names_every_one():
    assert resolve_unfreeze("head", STAGES) == ()
    assert resolve_unfreeze("all", STAGES) == tuple(OF)


@pytest.mark.parametrize("k", [1, 2, 3, 4, np.int64(2)])
def test_a_number_counts_stages_from_the_deepest(k):
    assert resolve_unfreeze(k, STAGES) == from_stage(4 - k)


@pytest.mark.parametrize(
    ("fraction", "k"),
    [(0.01, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.51, 3), (1.0, 4), (np.float32(0.75), 3)],
)
def test_a_fraction_of_the_stages_is_rounded_up(fraction, k):
    assert resolve_unfreeze(fraction, STAGES) == from_stage(4 - k)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("blocks.1", [name for name, stage in OF.items() if stage == 1]),  # not blocks.10
        ("blocks.10", ["blocks.10.conv.weight"]),
        ("blocks", [name for name in OF if name.startswith("blocks.")]),
        ("norm.bias", ["norm.bias"]),
        ("*.bias", ["blocks.0.bn.bias", "blocks.1.bn.bias", "norm.bias"]),
        ("blocks.*.bn", [name for name in OF if ".bn." in name]),
        ("blocks.[01].conv", ["blocks.0.conv.weight", "blocks.1.conv.weight"]),
    ],
)
def test_a_pattern_means_a_parameter_or_all_that_a_module_holds(pattern, names):
    assert resolve_unfreeze(pattern, STAGES) == tuple(names)
    assert resolve_unfreeze([pattern], STAGES) == tuple(names)


def test_several_patterns_give_each_weight_once_in_the_order_of_the_network():
    found = resolve_unfreeze(("norm", "*.bn.weight", "stem", "norm.bias"), STAGES)
    expected = ("stem.weight", "blocks.0.bn.weight", "blocks.1.bn.weight")
    assert found == (*expected, "norm.weight", "norm.bias")


@pytest.mark.parametrize("unfreeze", ["block", ["norm", "block"], "BLOCKS.0", "locks.0", "bias"])
def test_a_pattern_that_matches_nothing_is_an_error_that_names_the_stages(unfreeze):
    with pytest.raises(ValueError, match="matches no weight") as caught:
        resolve_unfreeze(unfreeze, STAGES)
    missing = unfreeze if isinstance(unfreeze, str) else "block"
    assert f"unfreeze={missing!r}" in str(caught.value)
    assert str(list(STAGES.names)) in str(caught.value)


@pytest.mark.parametrize("k", [5, 100])
def test_more_stages_than_there_are_is_an_error_that_says_how_many_there_are(k):
    with pytest.raises(ValueError, match=f"must be from 1 to 4, .*got {k}"):
        resolve_unfreeze(k, STAGES)


@pytest.mark.parametrize("k", [0, -1])
def test_no_stage_is_an_error_that_tells_of_the_head(k):
    with pytest.raises(ValueError, match="or 'head' for none of them"):
        resolve_unfreeze(k, STAGES)


@pytest.mark.parametrize("unfreeze", [[], (), set()])
def test_no_pattern_is_an_error_that_tells_of_the_head(unfreeze):
    with pytest.raises(ValueError, match="'head' trains none"):
        resolve_unfreeze(unfreeze, STAGES)


@pytest.mark.parametrize(
    "unfreeze",
    [True, False, np.True_, 1.5, 0.0, -0.5, float("nan"), float("inf"), None, [1, 2], ["norm", 1]],
)
def test_what_is_no_such_thing_is_refused_with_the_rule(unfreeze):
    with pytest.raises(ValueError, match="unfreeze must be 'head', 'all', a number of stages"):
        resolve_unfreeze(unfreeze, STAGES)


@pytest.mark.parametrize("unfreeze", [1, 0.3])
def test_stages_without_a_weight_are_an_error_that_says_what_to_do(unfreeze):
    stages = Stages(("conv", "bn", "pool"), {"conv.weight": 0, "bn.weight": 1})
    with pytest.raises(ValueError, match=r"no weight to train among.*'pool'.*choose more stages"):
        resolve_unfreeze(unfreeze, stages)
    assert resolve_unfreeze(2, stages) == ("bn.weight",)


def test_all_of_a_network_without_weights_is_an_error():
    with pytest.raises(ValueError, match="no weight to train"):
        resolve_unfreeze("all", Stages(("pool",), {}))
