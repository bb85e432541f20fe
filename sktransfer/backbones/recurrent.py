"""Weights files of recurrent networks: shipped, saved by this package, or from elsewhere."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import safetensors
from torch import Tensor, nn

from sktransfer.backbones.weights import (
    WRAPPERS,
    check_weights,
    fit_weights,
    module_to_bytes,
    read_weights,
    without_wrappers,
)
from sktransfer.exceptions import WeightsMismatchError
from sktransfer.networks.torch_settings import usual_settings
from sktransfer.sequences.recurrent import KINDS, RecurrentNetwork, Shape

_GATES = {4: "lstm", 3: "gru", 1: "rnn"}
"""Kind of a network by the number of gates in its matrices."""

SHIPPED = {
    kind: Path(__file__).with_name("series_weights") / f"{kind}.safetensors"
    for kind in ("lstm", "gru")
}


def save_network(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write weights as safetensors, for a `RecurrentNetwork` with the shape to rebuild it.

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


@usual_settings()
def load_recurrent(
    path: str | Path, prefix: str | None = None, vocabulary_size: int | None = None
) -> tuple[RecurrentNetwork, str]:
    """Load a network from a file of this package, or any state dict with an LSTM, GRU or RNN.

    Parameters
    ----------
    path : str or Path
        ``.safetensors``, or a ``.pt`` or ``.pth`` file of tensors.
    prefix : str or None, default=None
        Prefix of the recurrent network's tensors in a file from elsewhere, such as "encoder.rnn.";
        None finds it if there is only one.
    vocabulary_size : int or None, default=None
        For tokens: number of rows of the embedding in the file.

    Returns
    -------
    network : RecurrentNetwork
    sha256 : str
        SHA-256 of the file.

    Raises
    ------
    WeightsNotFoundError
        The file does not exist.
    WeightsMismatchError
        It holds no recurrent network under the prefix, or one of unknown kind.
    """
    state, sha256 = read_weights(path)
    if not (prefix or "").startswith(WRAPPERS):
        state = without_wrappers(state)
    shape = _saved_shape(path) if prefix is None else None
    if shape is None:
        start = _find_prefix(state, prefix, path)
        part = {name.removeprefix(start): t for name, t in state.items() if name.startswith(start)}
        shape, tensors = _infer_shape(part, f"{path} (prefix {start!r})")
        renamed = {f"rnn.{name}": tensor for name, tensor in tensors.items()}
        if vocabulary_size is not None:
            embedding = _find_embedding(state, vocabulary_size, shape.input_size, path)
            renamed["embedding.weight"] = embedding
            shape = replace(shape, vocabulary_size=vocabulary_size)
        state = renamed
    network = RecurrentNetwork.empty(shape)
    fit_weights(network, state, f"the network described in {path}")
    check_weights(network, str(path))
    return network.float(), sha256


def _saved_shape(path: str | Path) -> Shape | None:
    """Shape that `save_network` wrote into a file; None for files from elsewhere."""
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        return None
    with safetensors.safe_open(path, "pt") as file:
        metadata = (file.metadata() or {}).get("sktransfer")
    if metadata is None:
        return None
    try:
        shape = Shape(**json.loads(metadata))
        KINDS[shape.kind]  # raises KeyError for a kind of a newer version
        return shape
    except (TypeError, ValueError, KeyError) as error:
        raise WeightsMismatchError(
            f"{path} describes a network that this version does not know ({error}); update "
            "sktransfer, or pass weights_prefix='rnn.' to take its tensors alone"
        ) from error


def _find_prefix(state: Mapping[str, Tensor], prefix: str | None, path: str | Path) -> str:
    suffix = "weight_hh_l0"  # every recurrent network of torch has it
    found = sorted(name.removesuffix(suffix) for name in state if name.endswith(suffix))
    if prefix is None and len(found) == 1:
        return found[0]
    if prefix is not None:
        for candidate in (prefix, f"{prefix}."):
            if candidate in found:
                return candidate
    listed = ", ".join(map(repr, found)) or "none"
    problem = (
        f"weights_prefix must name one of its recurrent networks ({listed})"
        if prefix is None and found
        else f"no recurrent network has weights_prefix={prefix!r} (there are: {listed})"
    )
    raise WeightsMismatchError(
        f"{path}: {problem}. Its tensors must be named like those of torch.nn.LSTM, GRU or RNN, "
        "such as <prefix>weight_hh_l0"
    )


def _infer_shape(state: Mapping[str, Tensor], what: str) -> tuple[Shape, dict[str, Tensor]]:
    """Kind and sizes by the shapes of the tensors, and the tensors of the recurrent network."""
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    tensors = {
        name: tensor
        for name, tensor in state.items()
        if re.fullmatch(rf"({'|'.join(parts)})_l\d+(_reverse)?", name)
    }
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in tensors or tensors[name].ndim != 2 or 0 in tensors[name].shape:
            raise WeightsMismatchError(
                f"{what} holds no matrix {name}, and so no recurrent network"
            )
    rows, input_size = tensors["weight_ih_l0"].shape
    proj_size = tensors["weight_hr_l0"].shape[0] if "weight_hr_l0" in tensors else 0
    hidden_size = (
        tensors["weight_hr_l0"].shape[1] if proj_size else tensors["weight_hh_l0"].shape[1]
    )
    kind = _GATES.get(rows // hidden_size) if rows % hidden_size == 0 else None
    if kind is None:
        raise WeightsMismatchError(
            f"{what} has weight_ih_l0 of {rows} rows for {hidden_size} hidden units; an LSTM has "
            f"4 times as many rows as units, a GRU 3 times, an RNN as many"
        )
    layers = {int(re.findall(r"_l(\d+)", name)[-1]) for name in tensors}
    shape = Shape(
        kind,
        input_size,
        hidden_size,
        num_layers=max(layers) + 1,
        bidirectional=any(name.endswith("_reverse") for name in tensors),
        bias="bias_ih_l0" in tensors,
        proj_size=proj_size,
    )
    return shape, tensors


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
