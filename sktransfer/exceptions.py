"""Errors that callers may want to catch by name."""


class ImageReadError(ValueError):
    """An image could not be turned into pixels; the message says which one and why."""


class WeightsNotFoundError(FileNotFoundError):
    """A weights file is neither on this machine nor reachable.

    The message names the file, where to put it and how to pass it.
    """


class WeightsMismatchError(ValueError):
    """A weights file was found, but it is not the one that was asked for.

    Either its SHA-256 differs from the expected one, or its tensors do not fit
    the network.
    """


class ConversionError(RuntimeError):
    """A network or a head cannot be converted to OpenVINO or ONNX, or not with the same result."""


class DomainWarning(UserWarning):
    """Domains were not told apart, so that there is nothing to adapt."""
