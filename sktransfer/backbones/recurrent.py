"""Recurrent networks for sequences: built, initialised, saved, and read from foreign files."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import safetensors
import torch
from torch import Tensor, nn

from sktransfer.backbones.seeding import seeded
from sktransfer.backbones.weights import fit_weights, module_to_bytes, read_weights
from sktransfer.exceptions import WeightsMismatchError

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_GATES = {4: "lstm", 3: "gru", 1: "rnn"}
_UPDATE_GATE = {"lstm": 1, "gru": 1}
"""Which block of the gates keeps the state: the LSTM's forget gate, the GRU's update gate."""
_CANDIDATE = {"lstm": 2, "gru": 2, "rnn": 0}

EMBEDDING_SIZE = 64
"""Numbers that stand for a token."""

_LONGEST_MEMORY = 64
_SPECTRAL_SCALE = 1.3

SHIPPED = {
    kind: Path(__file__).with_name("series_weights") / f"{kind}.safetensors"
    for kind in ("lstm", "gru")
}


@dataclass(frozen=True)
class Shape:
    """What decides the tensors of a recurrent network.

    Parameters
    ----------
    kind : {"lstm", "gru", "rnn"}
    input_size, hidden_size, num_layers : int
    bidirectional, bias : bool
    proj_size : int
        Of an LSTM with projections; 0 without.
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
        """Length of a state that the network puts out."""
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
        """A network that waits for its weights."""
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
    """Each layer of a stacked network on its own: a network per direction, time-major.

    torch gives out the states of the last layer only, and reverses padded rows from the end of
    their padding. Weights are copied; dropout, which acts in training only, is left out.
    """
    directions = ["", "_reverse"] if rnn.bidirectional else [""]
    options: dict[str, Any] = {"bias": rnn.bias}
    if isinstance(rnn, nn.RNN):
        options["nonlinearity"] = rnn.nonlinearity
    if rnn.proj_size:
        options["proj_size"] = rnn.proj_size
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
            input_size = weights["weight_ih_l0"].shape[1]
            # On no device, so that no weights are drawn that are about to be replaced.
            single = _kind_of(rnn)(input_size, rnn.hidden_size, device="meta", **options)
            single.to_empty(device=weights["weight_ih_l0"].device)
            single.to(weights["weight_ih_l0"].dtype)
            single.load_state_dict(weights)
            networks.append(single.eval().requires_grad_(False))
        layers.append(networks)
    return layers


def _kind_of(rnn: nn.RNNBase) -> Any:
    return next(kind for kind in KINDS.values() if isinstance(rnn, kind))


# --- files ----------------------------------------------------------------------------------


def save_network(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write weights as safetensors; for ours, with what is needed to build the network again.

    Raises
    ------
    ValueError
        The path does not end in ``.safetensors``.
    """
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {str(path)!r}")
    metadata = {}
    if isinstance(network, RecurrentNetwork):
        metadata["sktransfer"] = json.dumps(asdict(network.shape))
    path.write_bytes(module_to_bytes(network, metadata))


def load_recurrent(
    path: str | Path, prefix: str | None = None, vocabulary_size: int | None = None
) -> tuple[RecurrentNetwork, str]:
    """A network from a file of ours, or from any state dict that holds an LSTM, GRU or RNN.

    Parameters
    ----------
    path : str or Path
        ``.safetensors``, or a ``.pt`` or ``.pth`` file of tensors.
    prefix : str or None, default=None
        What the names of the recurrent network's tensors begin with in a foreign file, such as
        "encoder.rnn."; None finds the only one there is.
    vocabulary_size : int or None, default=None
        For tokens: an embedding of so many rows is looked for in the file.

    Returns
    -------
    network : RecurrentNetwork
    sha256 : str
        Of the file.

    Raises
    ------
    WeightsNotFoundError
        There is no such file.
    WeightsMismatchError
        It holds no recurrent network there, or one that cannot be told from its tensors.
    """
    state, sha256 = read_weights(path)
    shape = _own_shape(path) if prefix is None else None
    if shape is None:
        start = _find_prefix(state, prefix, path)
        own = {name.removeprefix(start): t for name, t in state.items() if name.startswith(start)}
        shape, own = _shape_of(own, f"{path} (prefix {start!r})")
        renamed = {f"rnn.{name}": tensor for name, tensor in own.items()}
        if vocabulary_size is not None:
            embedding = _find_embedding(state, vocabulary_size, shape.input_size, path)
            renamed["embedding.weight"] = embedding
            shape = replace(shape, vocabulary_size=vocabulary_size)
        state = renamed
    network = RecurrentNetwork.empty(shape)
    fit_weights(network, state, f"the network described in {path}")
    broken = [name for name, t in network.state_dict().items() if not t.isfinite().all()]
    if broken:
        raise WeightsMismatchError(f"{path} holds NaN or infinity in {', '.join(broken)}")
    return network.float(), sha256


def _own_shape(path: str | Path) -> Shape | None:
    """What `save_network` noted in a file, None for files from elsewhere."""
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        return None
    with safetensors.safe_open(path, "pt") as file:
        noted = (file.metadata() or {}).get("sktransfer")
    if noted is None:
        return None
    try:
        shape = Shape(**json.loads(noted))
        KINDS[shape.kind]
        return shape
    except (TypeError, ValueError, KeyError) as error:
        raise WeightsMismatchError(
            f"{path} describes a network that this version does not know ({error}); update "
            "sktransfer, or pass weights_prefix='rnn.' to take its tensors alone"
        ) from error


def _find_prefix(state: Mapping[str, Tensor], prefix: str | None, path: str | Path) -> str:
    mark = "weight_hh_l0"
    found = sorted(name.removesuffix(mark) for name in state if name.endswith(mark))
    if prefix is None and len(found) == 1:
        return found[0]
    if prefix is not None:
        for candidate in (prefix, f"{prefix}."):
            if candidate in found:
                return candidate
    listed = ", ".join(map(repr, found)) or "none"
    problem = (
        f"weights_prefix must say which of its recurrent networks to take ({listed})"
        if prefix is None and found
        else f"no recurrent network has weights_prefix={prefix!r} (there are: {listed})"
    )
    raise WeightsMismatchError(
        f"{path}: {problem}. Tensors named as those of torch.nn.LSTM, GRU or RNN are looked for, "
        "such as <prefix>weight_hh_l0"
    )


def _shape_of(state: Mapping[str, Tensor], what: str) -> tuple[Shape, dict[str, Tensor]]:
    """Read kind and sizes off the tensors, and take those that belong to the network."""
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    own = {
        name: tensor
        for name, tensor in state.items()
        if re.fullmatch(rf"({'|'.join(parts)})_l\d+(_reverse)?", name)
    }
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in own or own[name].ndim != 2 or 0 in own[name].shape:
            raise WeightsMismatchError(
                f"{what} holds no matrix {name}, so it is no recurrent network"
            )
    rows, input_size = own["weight_ih_l0"].shape
    proj_size = own["weight_hr_l0"].shape[0] if "weight_hr_l0" in own else 0
    hidden_size = own["weight_hr_l0"].shape[1] if proj_size else own["weight_hh_l0"].shape[1]
    kind = _GATES.get(rows // hidden_size) if rows % hidden_size == 0 else None
    if kind is None:
        raise WeightsMismatchError(
            f"{what} has weight_ih_l0 of {rows} rows for {hidden_size} hidden units; an LSTM has "
            f"4 times as many rows as units, a GRU 3 times, an RNN as many"
        )
    layers = {int(re.findall(r"_l(\d+)", name)[-1]) for name in own}
    shape = Shape(
        kind,
        input_size,
        hidden_size,
        num_layers=max(layers) + 1,
        bidirectional=any(name.endswith("_reverse") for name in own),
        bias="bias_ih_l0" in own,
        proj_size=proj_size,
    )
    return shape, own


def _find_embedding(
    state: Mapping[str, Tensor], vocabulary_size: int, input_size: int, path: str | Path
) -> Tensor:
    size = (vocabulary_size, input_size)
    found = [n for n, t in state.items() if tuple(t.shape) == size and "emb" in n.lower()]
    if len(found) != 1:
        raise WeightsMismatchError(
            f"{path} must hold exactly one embedding of shape (vocabulary_size={vocabulary_size}, "
            f"input size {input_size}), with 'emb' in its name; found {found or 'none'}"
        )
    return state[found[0]]
