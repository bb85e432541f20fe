"""Scores of held-out rows after each epoch, by scikit-learn's scorers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer
from skorch.callbacks import Callback

from sktransfer.finetuning.outputs import as_scores

_TAKEN = ("loss", "batch_count", "batch_size")
"""Names that skorch records with the same prefix."""


def scorers_of(scoring: Any) -> dict[str, Any]:
    """Scorers by name; that of a single callable is "score".

    Raises
    ------
    ValueError
        `scoring` is no scorer, or names one that scikit-learn does not know.
    """
    if scoring is None:
        return {}
    if isinstance(scoring, str):
        named: dict[Any, Any] = {scoring: scoring}
    elif callable(scoring):
        named = {"score": scoring}
    elif isinstance(scoring, Mapping):
        named = dict(scoring)
    elif isinstance(scoring, list | tuple | set):
        if not all(isinstance(name, str) for name in scoring):
            raise ValueError(
                "scoring as a list must hold names of scorers; give callables names with a dict "
                f"such as {{'mine': my_scorer}}, got {scoring!r}"
            )
        named = {name: name for name in scoring}
    else:
        raise ValueError(
            "scoring must be the name of a scorer, a callable, a list of names, a dict of names to "
            f"scorers, or None, got {scoring!r}"
        )
    for name, scorer in named.items():
        if not isinstance(name, str) or name in _TAKEN:
            raise ValueError(
                f"scoring must have names other than {', '.join(_TAKEN)}, got {name!r}"
            )
        if not isinstance(scorer, str) and not callable(scorer):
            raise ValueError(f"scoring[{name!r}] must be a name or a callable, got {scorer!r}")
    try:
        return {name: get_scorer(scorer) for name, scorer in named.items()}
    except ValueError as error:
        raise ValueError(
            f"scoring names a scorer that scikit-learn does not know ({error}); see "
            f"sklearn.metrics.get_scorer_names(). Got {scoring!r}"
        ) from error


class HeldOutScores(Callback):
    """Record scores of the held-out rows in the history, under "valid_" and their names.

    The predictions are those that were made for the validation loss.
    """

    def __init__(self, scoring: Any) -> None:
        self.scoring = scoring

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Look up the scorers."""
        self.scorers_ = scorers_of(self.scoring)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Forget the predictions of the epoch before."""
        self.seen_: list[tuple[Any, Any]] = []

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, y_pred: Any = None, **kwargs: Any
    ) -> None:
        """Keep predictions and true targets."""
        if not training:
            self.seen_.append((batch[1], as_scores(y_pred)))

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Record the scores."""
        if not self.seen_:
            return  # `partial_fit` holds out no rows
        y, scores = (np.concatenate(parts) for parts in zip(*self.seen_, strict=True))
        self.seen_ = []
        with net.predicting(scores):
            for name, scorer in self.scorers_.items():
                found = scorer(net, dataset_valid, y)
                # A callable may return several scores, as in scikit-learn's searches.
                several = found if isinstance(found, Mapping) else {name: found}
                for each, score in several.items():
                    net.history.record(f"valid_{each}", float(score))
