"""Exceptions and warnings of the package, for callers that catch them by name."""


class ImageReadError(ValueError):
    """An image could not be decoded; the message says which one and why."""


class WeightsNotFoundError(FileNotFoundError):
    """A weights file is not on this machine and could not be downloaded.

    The message names the file, where to put it and how to pass it.
    """


class WeightsMismatchError(ValueError):
    """A weights file was found, but it is not the expected one.

    Either its SHA-256 differs from the expected one, or its tensors do not fit
    the network.
    """


class ConversionError(RuntimeError):
    """A network or a head cannot be converted to OpenVINO or ONNX with the same results."""


class DomainWarning(UserWarning):
    """An estimator was fitted without `sample_domain`, so that nothing is adapted."""
