"""What the three feature transformers have in common: how they are fitted, tuned and counted."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sktransfer.features.layer_choice import is_auto
from sktransfer.finetuning.fitting import Fitted, fit_on_labels
from sktransfer.finetuning.strategy import is_frozen
from sktransfer.finetuning.training import Tuned, raise_interrupt


class FeatureTransformer(TransformerMixin, BaseEstimator, ABC):
    """A network whose features are read, frozen or tuned; subclasses know what X is."""

    __metadata_request__fit: ClassVar = {"sample_domain": True}

    layer: Any
    strategy: Any

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, sample_domain: Any = None
    ) -> Self:
        """Load the network and settle what is read of it; fine-tune it if asked to."""
        self._check()
        of_rows = {"sample_weight": sample_weight, "sample_domain": sample_domain}
        if is_frozen(self.strategy):
            self._fit_frozen(X, y, **of_rows)
        else:
            raise_interrupt(fit_on_labels(self, X, y, **of_rows).tuned)
        return self

    def _fit(self, X: Any, y: Any, **how: Any) -> Fitted:
        """Fit on labels, and give the head, too."""
        self._check()
        return fit_on_labels(self, X, y, **how)

    @abstractmethod
    def _check(self) -> None:
        """Refuse wrong parameters."""

    @abstractmethod
    def _fit_frozen(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        sample_domain: Any = None,
        task: str | None = None,
    ) -> Any:
        """Fit without tuning."""

    @abstractmethod
    def _use_module(self, module: nn.Module) -> None:
        """Go on with other weights."""

    def _begin(self) -> None:
        """Nothing has gone through the network yet, and nothing of it is tuned."""
        self._forwarded = [0]  # shared, so that `transform` changes no attribute
        self._is_tuned = False
        self.trained_parameters_: tuple[str, ...] = ()
        self.n_trained_parameters_ = 0
        self.history_: list[dict[str, Any]] = []

    def _take(self, tuned: Tuned) -> None:
        """Become tuned."""
        if tuned.trained:  # else it is as it was
            self._use_module(tuned.network.body.module)
        self.trained_parameters_ = tuned.trained
        self.n_trained_parameters_ = tuned.n_trained
        self.history_ = tuned.history

    @property
    def n_forward_(self) -> int:
        """Number of samples that have gone through the network since `fit`."""
        check_is_fitted(self)
        return self._forwarded[0]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.target_tags.required = not is_frozen(self.strategy) or is_auto(self.layer)
        return tags


def slices_of(widths: Iterable[tuple[str, int]]) -> dict[str, slice]:
    """Columns of each layer, whose blocks lie side by side.

    Parameters
    ----------
    widths : iterable of (str, int)
        Layer and number of columns of each block, in order; those of one layer are neighbours.
    """
    slices: dict[str, slice] = {}
    start = 0
    for layer, width in widths:
        before = slices.get(layer)
        slices[layer] = slice(start if before is None else before.start, start + width)
        start += width
    return slices
