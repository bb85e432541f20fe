"""A network that has been loaded with its weights, as the feature transformers hold it."""

import hashlib
import threading
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from torch import nn

from sktransfer.backbones.weights import module_to_bytes
from sktransfer.networks.fingerprint import module_state, network_fingerprint
from sktransfer.networks.hooks import undisturbed


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, frozen and in evaluation mode.

    Parameters
    ----------
    name : str
        Name of the backbone.
    module : nn.Module
    weights_sha256 : str
        SHA-256 of the weights file; for weights that came without one, of the state dict written
        as safetensors.
    """

    name: str
    module: nn.Module
    weights_sha256: str
    _lock: "_Lock" = field(  # what is found out once is found out in one thread
        init=False, repr=False, compare=False, default_factory=lambda: _Lock()
    )

    @classmethod
    def of(cls, name: str, module: nn.Module) -> Self:
        """A network whose weights came without a file, or in one that others write otherwise."""
        return cls(name, module, sha256_of(module))

    def fingerprint_with(self, weights_sha256: str) -> str:
        """Hash of structure, code and these weights: all that decides the features."""
        return network_fingerprint(self.module, weights_sha256)

    @cached_property
    def state(self) -> list[tuple[int, int]]:
        """The `module_state` when it was first asked for."""
        return module_state(self.module)

    @cached_property
    def _loaded_fingerprint(self) -> str:
        with undisturbed(self.module):
            _ = self.state  # both belong to the same moment
            return self.fingerprint_with(self.weights_sha256)

    @property
    def is_changed(self) -> bool:
        """Whether the weights are others than when `state` was first asked for."""
        return module_state(self.module) != self.state

    @property
    def fingerprint(self) -> str:
        """Hash of weights, structure and code as they are now; somebody may have trained them."""
        with self._lock:
            fingerprint = self._loaded_fingerprint
        if not self.is_changed:
            return fingerprint
        with undisturbed(self.module):
            return self.fingerprint_with(sha256_of(self.module))


class _Lock:
    """A lock of threads that is another one in a copy or pickle."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Lock, ()


def sha256_of(module: nn.Module) -> str:
    """SHA-256 of a network's state dict written as safetensors."""
    return hashlib.sha256(module_to_bytes(module)).hexdigest()
