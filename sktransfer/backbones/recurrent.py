"""Weights of recurrent networks: the package's own, saved ones, and foreign files."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import safetensors
from torch import Tensor, nn

from sktransfer.backbones.weights import fit_weights, module_to_bytes, read_weights
from sktransfer.exceptions import WeightsMismatchError
from sktransfer.sequences.recurrent import KINDS, RecurrentNetwork, Shape

_GATES = {4: "lstm", 3: "gru", 1: "rnn"}
"""Kind of a network by how many gates its matrices hold."""

SHIPPED = {
    kind: Path(__file__).with_name("series_weights") / f"{kind}.safetensors"
    for kind in ("lstm", "gru")
}


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
