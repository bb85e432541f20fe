"""Fit a feature transformer and a head on labels, frozen or tuned."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from sktransfer._pairs import labels_of
from sktransfer.finetuning.cross_fitting import cross_fitted
from sktransfer.finetuning.network import LinearHead
from sktransfer.finetuning.probing import fit_head
from sktransfer.finetuning.protocols import TuningSource
from sktransfer.finetuning.resolving import seed_of
from sktransfer.finetuning.strategy import FineTune, is_frozen
from sktransfer.finetuning.targets import Targets, encode_targets
from sktransfer.finetuning.training import tune
from sktransfer.finetuning.tuned import Tuned
from sktransfer.networks.torch_settings import usual_settings


class FitResult(NamedTuple):
    """Targets, head and network that come out of a fit."""

    targets: Targets
    head: LinearHead
    tuned: Tuned | None  # None for frozen features
    features: np.ndarray | None = None  # of the rows, if they are cross-fitted


@usual_settings()
def fit_on_labels(
    transformer: Any,
    X: Any,
    y: Any,
    *,
    task: str | None = None,
    classes: Any = None,
    seed: int | None = None,
    start: Any = None,
    verbose: bool = False,
    cross_fit: int | None = None,
    check_targets: Callable[[Targets], None] | None = None,
    sample_weight: Any = None,
    sample_domain: Any = None,
) -> FitResult:
    """Fit a feature transformer and a head.

    The transformer changes only when all has gone well, or when the user has ended the training
    early: then it is ready with what was learned, and the interrupt is raised again.

    Parameters
    ----------
    transformer : PretrainedCNNFeatures, PretrainedTextFeatures or RNNSequenceFeatures
        Its ``__tuning_source__`` is a `sktransfer.finetuning.protocols.TuningSource`.
    X, y, sample_weight, sample_domain : Any
        As for its `fit`. Without y, X is a dataset of torch that gives pairs of a sample and its
        label.
    task : {"classification", "regression"} or None, default=None
        None asks the strategy. A classifier takes indicator matrices, too.
    classes : array-like or None, default=None
        All classes that may occur.
    seed : int or None, default=None
        None takes that of the strategy, or of the transformer.
    start : fitted estimator or None, default=None
        Whose network, and head if it fits, to begin with.
    verbose : bool, default=False
    cross_fit : int or None, default=None
        Folds for features of the rows by networks that were tuned without them.
    check_targets : callable or None, default=None
        Called with the encoded targets before anything is learned; raises an error if they do not
        fit the parameters of the estimator.
    """
    strategy = transformer.strategy
    y = labels_of(X) if y is None else y
    row_metadata = {"sample_weight": sample_weight, "sample_domain": sample_domain}
    if task is None and isinstance(strategy, FineTune) and strategy.task != "auto":
        task = strategy.task
    source: TuningSource = transformer.__tuning_source__()
    source.fit_frozen(X, y, task=task, **row_metadata)
    if start is not None:
        source.start_from(getattr(start, "features_", start))
    tuning = strategy if isinstance(strategy, FineTune) else FineTune()
    n_rows = source.n_rows(X)
    targets = encode_targets(
        y,
        n_rows=n_rows,
        task=task,
        classes=classes,
        class_weight=tuning.class_weight,
        **row_metadata,
    )
    if check_targets is not None:
        check_targets(targets)
    if is_frozen(strategy):
        features = source.features(X)
        targets.weights[~np.isfinite(features).all(axis=1)] = 0
        rows = np.flatnonzero(targets.weights > 0)
        values, weights = targets.values[rows], targets.weights[rows]
        head = fit_head(features[rows], values, weights, task=targets.task, final=True)
        source.commit()
        return FitResult(targets, head, None)
    seed = seed_of(strategy, transformer.random_state) if seed is None else seed
    progress = "fine-tuning" if transformer.verbose or verbose else None
    first = _head_of(start, source, targets)
    tuned = tune(source.tunable(X), targets, strategy, seed, progress=progress, head=first)
    without_own: np.ndarray | None = None
    if cross_fit is not None and tuned.trained and not tuned.interrupted:

        def without(held_out: np.ndarray) -> Targets:
            weights = np.ones(n_rows) if sample_weight is None else np.asarray(sample_weight)
            masked = {**row_metadata, "sample_weight": np.where(held_out, 0.0, weights)}
            return encode_targets(
                y,
                n_rows=n_rows,
                task=targets.task if targets.task != "multilabel" else task,
                classes=classes if targets.task != "classification" else targets.classes,
                class_weight=tuning.class_weight,
                **masked,
            )

        without_own, interrupted = cross_fitted(
            lambda: source.tunable(X), targets, without, strategy, seed, cross_fit, progress
        )
        tuned = replace(tuned, interrupted=interrupted)
    source.commit(tuned)
    return FitResult(targets, tuned.head, tuned, without_own)


def check_structure(module: nn.Module, start: nn.Module) -> None:
    """Raise ValueError unless the weights of two networks have the same names and shapes."""
    expected = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    other = {name: tuple(t.shape) for name, t in start.state_dict().items()}
    if expected != other:
        differing = sorted(set(expected.items()) ^ set(other.items()))[:3]
        raise ValueError(
            "start_from has another network than features: its weights differ, such as "
            f"{[name for name, _ in differing]}; give features the same backbone"
        )


def _head_of(start: Any, source: TuningSource, targets: Targets) -> LinearHead | None:
    """The initial head, if `start` has one for the same outputs and the same features."""
    stored = getattr(start, "_head", None)
    if stored is None or start._fitted_task != targets.task:
        return None
    if len(stored["bias"]) != targets.values.shape[1]:
        return None
    if targets.classes is not None and not np.array_equal(start.classes_, targets.classes):
        return None
    if not np.array_equal(start.features_.get_feature_names_out(), source.feature_names()):
        return None
    if targets.location is None:
        return LinearHead.from_state(stored)
    (old_mean, old_scale), (mean, scale) = start._location, targets.location
    weight = stored["weight"] * (old_scale / scale)[:, None]
    bias = (stored["bias"] * old_scale + old_mean - mean) / scale
    return LinearHead(stored["mean"], stored["scale"], weight, bias)
