"""The main blocks of an image network, found in its structure and in what ran in one pass."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from torch import nn

from sktransfer.images.pooling import Activation

# A child is the trunk if it holds this share of its level's weight matrices: stems and necks
# beside it (NFNet's stem has four convolutions) hold a few, while the largest of ResNet-152's
# four stages holds 0.7.
_TRUNK_SHARE = 0.9


def find_stages(
    module: nn.Module,
    activations: Mapping[str, Activation],
    times: Mapping[str, tuple[int, ...]],
    take_vectors: Collection[str],
) -> tuple[str, ...]:
    """Names of a network's main blocks, shallow to deep.

    Going down from the root, a child that holds nearly all weight matrices of its
    level leads further down, whatever it puts out; at the first level without such a child, its
    blocks are the stages. One that puts out no map and no tokens stands for its own main blocks. A
    single layer beside a list of blocks, such as a patch embedding, is no stage. A level of plain
    layers, as in VGG, is cut where the resolution changes.

    Parameters
    ----------
    module : nn.Module
    activations : dict of str to Activation
        Outputs of modules that can be read.
    times : dict of str to tuple of int
        When the calls of each module returned, as in `Execution`.
    take_vectors : collection of str
        Modules that are given one vector per image: parts of heads, whose weights do not count.
    """
    n_matrices = _matrices(module, take_vectors)
    prefix = ""
    while True:
        children = [
            item for item in _executed(module, prefix, times) if item[0] not in take_vectors
        ]
        children.sort(key=lambda item: times[item[0]][-1])
        deep = [name for name, c in children if n_matrices[name] >= 2 and any(c.children())]
        if not deep:
            return _plain_stages([name for name, _ in children], activations)
        trunk = max(deep, key=lambda name: n_matrices[name])
        # What puts out a vector pools for the classifier, unless it is the trunk itself.
        children = [
            item for item in children if item[0] == trunk or not _is_vector(item[0], activations)
        ]
        total = sum(n_matrices[name] for name, _ in children)
        if n_matrices[trunk] < _TRUNK_SHARE * total:
            break
        module, prefix = dict(children)[trunk], f"{trunk}."
    deepest = max(name.count(".") for name, _ in children)
    stages: list[str] = []
    for name, child in children:
        beside = name.count(".") < deepest
        if not any(child.children()) or n_matrices[name] < (2 if beside else 1):
            continue
        if name in activations and activations[name].is_spatial:
            stages.append(name)
        elif n_matrices[name] >= 2:
            below = {n.removeprefix(f"{name}."): n for n in times if n.startswith(f"{name}.")}
            stages += (
                below[stage]
                for stage in find_stages(
                    child,
                    {short: activations[n] for short, n in below.items() if n in activations},
                    {short: times[n] for short, n in below.items()},
                    {short for short, n in below.items() if n in take_vectors},
                )
            )
    return tuple(stages)


def _is_vector(name: str, activations: Mapping[str, Activation]) -> bool:
    return name in activations and not activations[name].is_spatial


def _plain_stages(names: list[str], activations: Mapping[str, Activation]) -> tuple[str, ...]:
    """The last of consecutive layers of one resolution."""
    names = [name for name in names if name in activations and activations[name].is_spatial]
    return tuple(
        name
        for name, after in zip(names, [*names[1:], None], strict=False)
        if after is None or activations[after].resolution != activations[name].resolution
    )


def _executed(
    level: nn.Module, prefix: str, times: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, nn.Module]]:
    """Children that ran; one that did not run itself, such as a list, stands for its own."""
    for name, child in level.named_children():
        full = prefix + name
        if full in times:
            yield full, child
        else:
            yield from _executed(child, f"{full}.", times)


def _matrices(module: nn.Module, take_vectors: Collection[str]) -> Counter[str]:
    """Number of weight matrices and kernels in each module, but for those applied to vectors."""
    counts: Counter[str] = Counter()
    for name, layer in module.named_modules():
        parts = name.split(".")
        around = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        if not any(each in take_vectors for each in around):
            own = n_own_matrices(layer)
            counts.update(dict.fromkeys(around, own))
    return counts


def n_own_matrices(layer: nn.Module) -> int:
    """Number of weight matrices and kernels that a layer itself applies to its input."""
    if isinstance(layer, nn.Embedding):  # a table to be looked up
        return 0
    if hasattr(layer, "_packed_params"):  # quantised, whose weights are no parameters
        return 1
    # The first axis of tokens and positional embeddings stands for the batch.
    return sum(p.ndim >= 2 and len(p) > 1 for p in layer.parameters(recurse=False))
