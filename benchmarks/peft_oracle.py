"""Compare low-rank updates with those of peft: outputs, gradients, merged weights and counts.

    pip install peft
    python peft_oracle.py

Both get the same A and B and the same batch, for a linear layer, one of GPT-2, a convolution, a
strided one, and a vision transformer of timm whose queries, keys and values are one layer. peft
gets alpha equal to the rank, which is a scale of 1. Differences are relative to the largest value
of what is compared. Convolutions with groups are left out, as peft refuses to merge their updates.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from _common import write_result
from peft import LoraConfig, get_peft_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from sktransfer.finetuning.low_rank import LowRankUpdates, n_entries

RANK = 8


class Case(NamedTuple):
    """A network, the weights to update by the names of their layers, and the shape of a batch."""

    make: Callable[[], nn.Module]
    layers: tuple[str, ...]
    shape: tuple[int, ...]


class One(nn.Module):
    """A single layer, as peft looks for layers within a network."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def vit() -> nn.Module:
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=0
    )


BLOCK = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
CASES = {
    "linear": Case(lambda: One(nn.Linear(40, 24)), ("layer",), (16, 40)),
    "GPT-2's linear": Case(lambda: One(Conv1D(24, 40)), ("layer",), (16, 40)),
    "convolution": Case(lambda: One(nn.Conv2d(12, 20, 3, padding=1)), ("layer",), (4, 12, 9, 9)),
    "strided": Case(lambda: One(nn.Conv2d(12, 20, 3, stride=2)), ("layer",), (4, 12, 9, 9)),
    "vision transformer": Case(
        vit, tuple(f"blocks.{n}.{layer}" for n in range(2) for layer in BLOCK), (4, 3, 32, 32)
    ),
}


def compare(case: Case) -> dict[str, Any]:
    """Differences for one network."""
    torch.manual_seed(0)
    module = case.make().eval().requires_grad_(False)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(case.layers))
    theirs = get_peft_model(copy.deepcopy(module), config).eval()
    names = {layer: f"{layer}.weight" for layer in case.layers}
    updates = LowRankUpdates(module, names.values(), RANK)
    factors: list[tuple[nn.Parameter, nn.Parameter]] = []  # ours and theirs
    for layer, name in names.items():
        adapted = theirs.get_submodule(f"base_model.model.{layer}")
        for ours, kind in zip(updates.factors(name), ("lora_A", "lora_B"), strict=True):
            other = getattr(adapted, kind)["default"].weight
            with torch.no_grad():
                ours.normal_(std=0.2)
                other.copy_(ours.reshape(other.shape))
            factors.append((ours, other))
    updates.write()

    x = torch.randn(case.shape)
    found, expected = module(x), theirs(x)
    gradient = torch.randn_like(found)
    found.backward(gradient)
    expected.backward(gradient)
    merged = theirs.merge_and_unload().state_dict()
    ours_of_all = module.state_dict()
    n_of_peft = sum(other.numel() for _, other in factors)
    return {
        "outputs": _difference(found, expected),
        "gradients": max(_difference(a.grad.reshape(b.grad.shape), b.grad) for a, b in factors),
        "merged weights": max(_difference(ours_of_all[name], w) for name, w in merged.items()),
        "factor entries": n_entries(module, names.values(), RANK),
        "factor entries of peft": n_of_peft,
        "weights": len(names),
    }


def _difference(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach(), expected.detach()
    largest = float(expected.abs().max()) or 1.0  # 0 for biases that are zero
    return float((found - expected).abs().max()) / largest


def main() -> None:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.parse_args()
    torch.set_num_threads(1)
    results = {name: compare(case) for name, case in CASES.items()}
    kinds = ("outputs", "gradients", "merged weights")
    print(f"{'':20}" + "".join(f"{kind:>16}" for kind in kinds) + f"{'entries':>10}")
    for name, found in results.items():
        assert found["factor entries"] == found["factor entries of peft"], name
        numbers = "".join(f"{found[kind]:16.1e}" for kind in kinds)
        print(f"{name:20}{numbers}{found['factor entries']:10,}")
    write_result("peft_oracle", {"rank": RANK, "cases": results})


if __name__ == "__main__":
    main()
