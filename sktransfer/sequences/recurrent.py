"""Recurrent networks for sequences, and how their random weights are drawn."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sktransfer.networks.seeding import seeded

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_UPDATE_GATE = {"lstm": 1, "gru": 1}
"""Block of the gate that preserves the state: the LSTM's forget gate, the GRU's update gate."""
_CANDIDATE = {"lstm": 2, "gru": 2, "rnn": 0}

EMBEDDING_SIZE = 64
"""Length of the vector of a token."""

_LONGEST_MEMORY = 64
_SPECTRAL_SCALE = 1.3


@dataclass(frozen=True)
class Shape:
    """The numbers that decide the tensors of a recurrent network.

    Parameters
    ----------
    kind : {"lstm", "gru", "rnn"}
    input_size, hidden_size, num_layers : int
    bidirectional, bias : bool
    proj_size : int
        Size of an LSTM's projections; 0 without.
    vocabulary_size : int or None
        Number of tokens, for networks that embed them.
    attention : bool
        Whether it has learned which steps matter.
    """

    kind: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    proj_size: int = 0
    vocabulary_size: int | None = None
    attention: bool = False

    @property
    def n_units(self) -> int:
        """Length of a state that the network returns."""
        return (self.proj_size or self.hidden_size) * (2 if self.bidirectional else 1)


class RecurrentNetwork(nn.Module):
    """A recurrent network, with an embedding for tokens and attention where there is one.

    Parameters
    ----------
    shape : Shape
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        projection = {"proj_size": shape.proj_size} if shape.proj_size else {}
        self.shape = shape
        self.rnn = KINDS[shape.kind](
            shape.input_size,
            shape.hidden_size,
            shape.num_layers,
            bias=shape.bias,
            bidirectional=shape.bidirectional,
            **projection,
        )
        self.embedding = (
            None
            if shape.vocabulary_size is None
            else nn.Embedding(shape.vocabulary_size, shape.input_size)
        )
        self.attention = nn.Linear(shape.n_units, 1, bias=False) if shape.attention else None

    def embed(self, steps: Tensor) -> Tensor:
        """(time, rows) of tokens to (time, rows, input size); series are left alone."""
        return steps if self.embedding is None else self.embedding(steps)

    def with_attention(self) -> Self:
        """The same network, with attention yet to be learned if it has none."""
        if self.attention is None:
            device = self.rnn.weight_hh_l0.device
            self.attention = nn.Linear(self.shape.n_units, 1, bias=False, device=device)
            self.shape = replace(self.shape, attention=True)
        return self

    def forward(self, steps: Tensor) -> Tensor:
        """States of the last layer, (time, rows, units), for time-major input."""
        return self.rnn(self.embed(steps))[0]

    @classmethod
    def empty(cls, shape: Shape) -> Self:
        """A network whose weights are to be loaded."""
        with seeded(0):
            return cls(shape)

    @classmethod
    def initialised(cls, shape: Shape, seed: int) -> Self:
        """With random weights that remember over many time scales.

        Biases of the gates that keep the state are such that memories fade over 1 to 64 steps,
        uniformly in the logarithm [1]_. Recurrent matrices are orthogonal, that of the candidate
        state is scaled by 1.3 so that states neither die out nor forget their input.

        References
        ----------
        .. [1] C. Tallec and Y. Ollivier, "Can recurrent neural networks warp time?", ICLR 2018:
           chrono initialisation.
        """
        with seeded(seed), torch.no_grad():
            network = cls(shape)
            for name, tensor in network.rnn.named_parameters():
                if name.startswith("weight_hh"):
                    blocks = torch.split(tensor, shape.hidden_size)
                    for block in blocks:
                        nn.init.orthogonal_(block)
                    candidate = blocks[_CANDIDATE[shape.kind]]
                    candidate *= _SPECTRAL_SCALE
                elif name.startswith("weight_ih"):
                    nn.init.normal_(tensor, std=1 / math.sqrt(tensor.shape[1]))
                elif name.startswith("bias_hh"):
                    nn.init.zeros_(tensor)
                elif name.startswith("bias_ih"):
                    _spread_memory(tensor, shape)
        return network


def _spread_memory(bias: Tensor, shape: Shape) -> None:
    size = shape.hidden_size
    nn.init.zeros_(bias)
    blocks = torch.split(bias, size)
    nn.init.normal_(blocks[_CANDIDATE[shape.kind]], std=0.3)
    if shape.kind in _UPDATE_GATE:
        time_scale = torch.exp(torch.rand(size) * math.log(_LONGEST_MEMORY)).clamp(min=1.01)
        keep = torch.log(time_scale - 1)  # sigmoid(keep) = 1 - 1 / time_scale
        blocks[_UPDATE_GATE[shape.kind]].copy_(keep)
        if shape.kind == "lstm":
            blocks[0].copy_(-keep)  # what is written in makes up for what fades


def single_layers(rnn: nn.RNNBase) -> list[list[nn.RNNBase]]:
    """Each layer of a stacked network as a time-major network per direction.

    torch returns the states of the last layer only, and reverses padded rows from the end of
    their padding. Weights are copied; dropout, which acts in training only, is left out.
    """
    directions = ["", "_reverse"] if rnn.bidirectional else [""]
    state = rnn.state_dict()
    layers = []
    for layer in range(rnn.num_layers):
        networks = []
        for direction in directions:
            weights = {
                name.removesuffix(direction): tensor
                for name, tensor in state.items()
                if name.endswith(f"_l{layer}{direction}")
            }
            weights = {name.replace(f"_l{layer}", "_l0"): t for name, t in weights.items()}
            single = _without_weights(rnn, layer, bidirectional=False)
            single.to_empty(device=weights["weight_ih_l0"].device)
            single.to(weights["weight_ih_l0"].dtype)
            single.load_state_dict(weights)
            networks.append(single.eval().requires_grad_(False))
        layers.append(networks)
    return layers


def states_by_layer(rnn: nn.RNNBase, steps: Tensor, lengths: Tensor, n_layers: int) -> list[Tensor]:
    """States of the first layers, with gradients for the weights.

    Each layer runs as a network of its own with the weights of the whole, since torch returns the
    states of the last layer only; in training mode with dropout between them.

    Parameters
    ----------
    rnn : nn.RNNBase
    steps : Tensor of shape (time, rows, input size)
        Padded at the end.
    lengths : Tensor of shape (rows,), int64
    n_layers : int

    Returns
    -------
    list of Tensor of shape (time, rows, units)
    """
    states = []
    for layer in range(n_layers):
        if layer and rnn.dropout:
            steps = nn.functional.dropout(steps, rnn.dropout, rnn.training)
        end = re.compile(rf"_l{layer}(?=_reverse$|$)")
        weights: dict[str, Tensor] = {
            end.sub("_l0", n): p for n, p in rnn.named_parameters() if end.search(n)
        }
        single = _without_weights(rnn, layer, bidirectional=rnn.bidirectional).train(rnn.training)
        if rnn.bidirectional:  # padding at the end changes no state before it, else
            packed = nn.utils.rnn.pack_padded_sequence(steps, lengths.cpu(), enforce_sorted=False)
            result = functional_call(single, weights, (packed,))[0]
            steps = nn.utils.rnn.pad_packed_sequence(result, total_length=len(steps))[0]
        else:
            steps = functional_call(single, weights, (steps,))[0]
        states.append(steps)
    return states


def _without_weights(rnn: nn.RNNBase, layer: int, *, bidirectional: bool) -> nn.RNNBase:
    """A time-major network of the kind of one layer, on no device: no weights are drawn for it."""
    options: dict[str, Any] = {"bias": rnn.bias, "bidirectional": bidirectional}
    if isinstance(rnn, nn.RNN):
        options["nonlinearity"] = rnn.nonlinearity
    if rnn.proj_size:
        options["proj_size"] = rnn.proj_size
    kind: Any = next(kind for kind in KINDS.values() if isinstance(rnn, kind))
    below = (rnn.proj_size or rnn.hidden_size) * (2 if rnn.bidirectional else 1)
    input_size = below if layer else rnn.input_size
    return kind(input_size, rnn.hidden_size, device="meta", **options)
