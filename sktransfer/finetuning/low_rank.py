"""Low-rank updates of weights, which are merged into the weights after every step.

LoRA (E. J. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, equation 3)
replaces a matrix W by W + B A with few inner dimensions and trains B and A alone. Here the layers
keep their one weight, which always holds the sum. Its gradient G gives those of the factors by the
chain rule, B^T G and G A^T, and after a step of the optimizer the sum is written anew. Training is
the same, and the network remains what it was for all that looks at it meanwhile: attention and
recurrent layers that read weights without calling a layer, hooks, averages of weights, the best
epoch, an interrupt.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from skorch.callbacks import Callback
from torch import Tensor, nn

from sktransfer.finetuning.trainable import is_transposed_linear, owner_of


class LowRankUpdates(nn.Module):
    """Factors of the updates of some weights of a network.

    A weight is seen as a matrix (outputs, inputs), that of a convolution as (channels out, channels
    in of a group * positions of the kernel). B is zero at first, so that the network is unchanged,
    and A is uniform within 1 / sqrt(inputs), as in the code of the paper.

    Parameters
    ----------
    module : nn.Module
    names : iterable of str
        Names of the weights.
    rank : int
        Inner dimension; that of a smaller matrix is its smaller side.

    Attributes
    ----------
    down : nn.ParameterDict
        A of each weight, (rank, inputs), under its name with "/" for ".".
    up : nn.ParameterDict
        B of each weight, (outputs, rank).
    """

    def __init__(self, module: nn.Module, names: Iterable[str], rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        # Not registered: the weights belong to the network, and their old values never change.
        self._weights: dict[str, tuple[nn.Parameter, bool]] = {}
        self._before: dict[str, Tensor] = {}
        for name in names:
            weight = module.get_parameter(name)
            weight.requires_grad_()  # else it can have no hook
            turned = is_transposed_linear(owner_of(module, name)[0])
            key = name.replace(".", "/")
            matrix = _as_matrix(weight.detach(), turned)
            n_out, n_in = matrix.shape
            inner = min(rank, n_out, n_in)
            bound = 1 / math.sqrt(n_in)
            self.down[key] = nn.Parameter(matrix.new_empty(inner, n_in).uniform_(-bound, bound))
            self.up[key] = nn.Parameter(matrix.new_zeros(n_out, inner))
            self._weights[key] = weight, turned
            self._before[key] = weight.detach().clone()
        self._hooks = [
            weight.register_post_accumulate_grad_hook(partial(self._pass_on, key))  # type: ignore[no-untyped-call]
            for key, (weight, _) in self._weights.items()
        ]

    def factors(self, name: str) -> tuple[nn.Parameter, nn.Parameter]:
        """A and B of a weight."""
        key = name.replace(".", "/")
        return self.down[key], self.up[key]

    @torch.no_grad()
    def write(self) -> None:
        """Set the weights to the sum of what they were and the updates."""
        for key, (weight, turned) in self._weights.items():
            update = self.up[key] @ self.down[key]
            update = (update.T if turned else update).reshape(weight.shape)
            torch.add(self._before[key], update, out=update)
            weight.copy_(update)

    def release(self) -> None:
        """Leave the weights as they are, with gradients of their own again."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def _pass_on(self, key: str, weight: Tensor) -> None:
        """Turn the gradient of a weight, which ends here, into those of its factors."""
        assert weight.grad is not None
        gradient = _as_matrix(weight.grad, self._weights[key][1])
        weight.grad = None
        down, up = self.down[key], self.up[key]
        for factor, of_factor in ((down, up.T @ gradient), (up, gradient @ down.T)):
            factor.grad = of_factor if factor.grad is None else factor.grad + of_factor


class WriteUpdates(Callback):
    """Write the weights after every step, and once more after one that was interrupted."""

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Write those of this step."""
        if training:
            net.module_.updates.write()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Write those of a step between which and its end the interrupt came."""
        net.module_.updates.write()


def n_entries(module: nn.Module, names: Iterable[str], rank: int) -> int:
    """Number of entries of the factors of some weights."""
    return sum(_n_entries(module.get_parameter(name), rank) for name in names)


def _n_entries(weight: Tensor, rank: int) -> int:
    n_out, n_in = len(weight), weight[0].numel()
    return min(rank, n_out, n_in) * (n_out + n_in)


def _as_matrix(weight: Tensor, turned: bool) -> Tensor:
    return weight.T if turned else weight.flatten(1)
