"""Which weights of a network each value of ``tune=`` can train."""

from dataclasses import replace

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from sktransfer.finetuning.unfreezing import Stages

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def restricted(stages: Stages, module: nn.Module, tune: str) -> Stages:
    """The same stages with those weights only that `tune` can train.

    "bias": vectors that have "bias" in their name. "norm": weights of normalisation layers, which
    are those of torch and classes that have "Norm" in their name. "lora": weights that
    `is_adaptable` accepts.
    """
    if tune == "all":
        return stages
    chosen = {"bias": _is_bias, "norm": _is_of_norm, "lora": is_adaptable}[tune]
    return replace(stages, of={n: s for n, s in stages.of.items() if chosen(module, n)})


def is_adaptable(module: nn.Module, name: str) -> bool:
    """Whether a weight has a low-rank form: that of a linear, attention, recurrent or conv layer.

    Convolutions may have groups, but must not be transposed. Embeddings, positions, relative biases
    and weights of other layers have none.
    """
    owner, own_name = owner_of(module, name)
    known = isinstance(owner, nn.Linear | nn.MultiheadAttention | nn.RNNBase | _ConvNd)
    known = known and not isinstance(owner, _ConvTransposeNd)
    is_weight = "weight" in own_name and module.get_parameter(name).ndim > 1
    return is_weight and (known or is_transposed_linear(owner))


def is_transposed_linear(owner: nn.Module) -> bool:
    """Whether a layer is the linear layer of GPT-2, whose weight is (inputs, outputs)."""
    return type(owner).__name__ == "Conv1D" and hasattr(owner, "nf")


def owner_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The layer that holds a parameter, and the name that it has there."""
    path, _, own_name = name.rpartition(".")
    return module.get_submodule(path), own_name


def _is_bias(module: nn.Module, name: str) -> bool:
    return "bias" in name.rpartition(".")[2] and module.get_parameter(name).ndim == 1


def _is_of_norm(module: nn.Module, name: str) -> bool:
    owner, _ = owner_of(module, name)
    return isinstance(owner, _NORMS) or "Norm" in type(owner).__name__
