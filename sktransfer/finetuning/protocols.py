"""Interfaces between fine-tuning and the feature transformers whose networks it trains."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from sktransfer.finetuning.averaging import Ends
from sktransfer.finetuning.batches import Inputs
from sktransfer.finetuning.network import Body
from sktransfer.finetuning.strategy import FineTune
from sktransfer.finetuning.unfreezing import stages_before
from sktransfer.networks.resuming import find_resumption


class Tunable(ABC):
    """Samples, and a network that may be trained on them.

    Parameters
    ----------
    body : Body
        On its device, with a copy of the network.
    device : torch.device
    """

    samples: ClassVar[str]
    """Plural of what X holds, for error messages."""

    augments: ClassVar[bool] = False
    """Whether samples can be changed at random."""

    prepared: tuple[Inputs, np.ndarray]
    """What `inputs` returned last."""

    def __init__(self, body: Body, device: torch.device) -> None:
        self.body = body
        self.device = device

    def inputs(self, trained: tuple[str, ...], strategy: FineTune) -> tuple[Inputs, np.ndarray]:
        """All rows of X as the body is going to need them, and which of them could be read.

        They are features, activations or samples: the deepest that training does not change.
        """
        self.prepared = self._prepared(trained, strategy)
        return self.prepared

    def _prepared(self, trained: tuple[str, ...], strategy: FineTune) -> tuple[Inputs, np.ndarray]:
        if strategy.augment is not None and not self.augments:
            raise ValueError(
                f"augment changes images and series, and X holds {self.samples}; set augment=None"
            )
        body = self.body
        body.begin = "input"
        if strategy.augment is None and strategy.cache_trunk:
            if not trained:
                body.begin = "features"
                return self._features()
            if body.trace is not None:
                stages = stages_before(trained, body.stages, body.trace, body.reads)
                resumption = find_resumption(body.module, body.trace, body.reads, stages)
                if resumption is not None:
                    body.begin = resumption
                    return self._activations(resumption.layer)
        return self._samples(strategy)

    @abstractmethod
    def _features(self) -> tuple[Inputs, np.ndarray]:
        """Features of the untuned network."""

    def _activations(self, layer: str) -> tuple[Inputs, np.ndarray]:
        """Outputs of a layer, for bodies with a trace."""
        raise NotImplementedError

    @abstractmethod
    def _samples(self, strategy: FineTune) -> tuple[Inputs, np.ndarray]:
        """Samples as the network takes them, changed at random if the strategy says so."""


class TuningSource(Protocol):
    """A feature transformer as fine-tuning uses it, from ``transformer.__tuning_source__()``.

    The transformer itself changes only when `commit` is called.

    Attributes
    ----------
    augments : bool
        Whether samples can be changed at random, as images and series can.
    mirrors : bool
        Whether they can be mirrored, as images can.
    """

    augments: bool
    mirrors: bool

    def fit_frozen(
        self, X: Any, y: Any, *, task: str | None, sample_weight: Any, sample_domain: Any
    ) -> None:
        """Load the network and learn what its features need to know of X, without tuning."""

    def start_from(self, transformer: Any) -> None:
        """Take over the weights of another fitted transformer, whose network must be alike."""

    def n_rows(self, X: Any) -> int:
        """Number of samples."""

    def features(self, X: Any) -> np.ndarray:
        """Features of the network as it is; rows of NaN could not be read."""

    def feature_names(self) -> np.ndarray:
        """Names of the features."""

    def body(self) -> Body:
        """The network and its features as a trainable module, sharing the weights."""

    def tunable(self, X: Any, body: Body | None = None) -> Tunable:
        """X, and a copy of the network or the body given."""

    def augmented(self, X: Any, change: Any, strategy: FineTune, seed: int) -> Iterator[np.ndarray]:
        """Features of the samples as they are, and of the views of them that `change` counts."""

    def interpolate(self, ends: Ends, alpha: float) -> None:
        """Move the network to a point between a source network and a tuned one."""

    def commit(self, tuned: Any = None) -> None:
        """Make the transformer fitted, with a tuned network if there is one."""
