"""The device that a network runs on."""

import warnings
from typing import Any

import torch


def resolve_device(device: str) -> torch.device:
    """Turn "auto" into the best device there is, and check a named one.

    Raises
    ------
    ValueError
        torch does not know the device, or it is not available here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).cpu()  # "meta" exists, and computes nothing
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here ({str(error).splitlines()[0]}); pass 'auto', "
            "'cpu', 'cuda', 'cuda:<number>' or 'mps'"
        ) from error
    return resolved


def device_again(estimator: Any) -> torch.device:
    """The device of an unpickled estimator: the one it was fitted on, or with a warning the CPU."""
    try:
        return resolve_device("auto" if estimator.device == "auto" else estimator.device_)
    except ValueError:
        warnings.warn(
            f"the estimator was fitted on device={estimator.device_!r}, which this machine lacks; "
            "using the CPU",
            stacklevel=3,
        )
        return torch.device("cpu")
