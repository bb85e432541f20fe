"""How an image network takes its images: by position, or by a name."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn


def argument_of(module: nn.Module) -> str | None:
    """Name by which a network takes its images; None if it takes them by position.

    Raises
    ------
    ValueError
        It takes several inputs, and by name only.
    """
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # not a function of Python
        return None
    named = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    by_position = any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)
    if by_position or not named:
        return None
    needed = [p.name for p in named if p.default is inspect.Parameter.empty]
    main = getattr(module, "main_input_name", None)  # transformers
    for names in (needed, [p.name for p in named if p.name == main], [p.name for p in named]):
        if len(names) == 1 and set(needed) <= set(names):
            return names[0]
    raise ValueError(
        f"the forward of {type(module).__name__} takes {', '.join(p.name for p in named)}, all by "
        "name, and a backbone is given images only; wrap it in a module that takes these alone"
    )


def call(module: nn.Module, argument: str | None, images: Tensor) -> Any:
    """Call a network on images, by position or by the name of its argument."""
    return module(images) if argument is None else module(**{argument: images})


def noise_for(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Values from 0 to 1, always the same, where the network is."""
    generator = torch.Generator().manual_seed(0)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    return torch.rand(shape, dtype=torch.float32, generator=generator).to(device)
