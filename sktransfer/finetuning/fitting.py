"""How a feature transformer is fitted under a strategy: frozen, or tuned on labels."""

import copy
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from sktransfer.finetuning.network import Head
from sktransfer.finetuning.probing import fit_head
from sktransfer.finetuning.strategy import FineTune, is_frozen
from sktransfer.finetuning.targets import Targets, encode_targets
from sktransfer.finetuning.training import Tuned, seed_of, tune

SEEN = {"n_features_in_", "feature_names_in_"}
"""What scikit-learn's validation notes of a table."""


class Fitted(NamedTuple):
    """What fitting a transformer under a strategy gives.

    Parameters
    ----------
    targets : Targets
    head : Head
    tuned : Tuned or None
        None for frozen features.
    """

    targets: Targets
    head: Head
    tuned: Tuned | None


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
    sample_weight: Any = None,
    sample_domain: Any = None,
) -> Fitted:
    """Fit a transformer of images or sequences and a head.

    The transformer changes only when all has gone well, or when the user has ended the training
    early: then it is ready with what was learned, and the interrupt is raised again.

    Parameters
    ----------
    transformer : PretrainedCNNFeatures or RNNSequenceFeatures
    X, y, sample_weight, sample_domain : Any
        As for its `fit`.
    task : {"classification", "regression"} or None, default=None
        None asks the strategy. A classifier takes indicator matrices, too.
    classes : array-like or None, default=None
        All that there may be.
    seed : int or None, default=None
        None takes that of the strategy, or of the transformer.
    start : fitted estimator or None, default=None
        Whose network, and head if it fits, to begin with.
    verbose : bool, default=False
    """
    strategy = transformer.strategy
    frozen = type(transformer)(**{**transformer.get_params(deep=False), "strategy": "frozen"})
    of_rows = {"sample_weight": sample_weight, "sample_domain": sample_domain}
    if task is None and isinstance(strategy, FineTune) and strategy.task != "auto":
        task = strategy.task
    frozen._fit_frozen(X, y, task=task, **of_rows)
    if start is not None:
        _start_from(frozen, getattr(start, "features_", start))
    tuning = strategy if isinstance(strategy, FineTune) else FineTune()
    targets = encode_targets(
        y,
        n_rows=frozen._count(X),
        task=task,
        classes=classes,
        class_weight=tuning.class_weight,
        **of_rows,
    )
    if is_frozen(strategy):
        head = _head_on_frozen(frozen, X, targets)
        pass_on(frozen, transformer)
        return Fitted(targets, head, None)
    tuned = tune(
        frozen._tunable(X),
        targets,
        strategy,
        seed_of(strategy, transformer.random_state) if seed is None else seed,
        progress="fine-tuning" if transformer.verbose or verbose else None,
        head=_head_of(start, frozen, targets),
    )
    pass_on(frozen, transformer)
    transformer._take(tuned)
    return Fitted(targets, tuned.head, tuned)


def check_structure(module: nn.Module, start: nn.Module) -> None:
    """See that one network's weights can be another's.

    Raises
    ------
    ValueError
        They have other names or shapes.
    """
    own = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    other = {name: tuple(t.shape) for name, t in start.state_dict().items()}
    if own != other:
        differing = sorted(set(own.items()) ^ set(other.items()))[:3]
        raise ValueError(
            "start_from has another network than features: its weights differ, such as "
            f"{[name for name, _ in differing]}; give features the same backbone"
        )


def pass_on(fitted: Any, other: Any) -> None:
    """Give another transformer all that was fitted."""
    forget_table(other)
    parameters = fitted.get_params(deep=False)
    for name, value in vars(fitted).items():
        if name not in parameters:
            setattr(other, name, value)


def _start_from(frozen: Any, start: Any) -> None:
    check_structure(frozen.module_, start.module_)
    frozen._use_module(copy.deepcopy(start.module_).to(frozen.device_))


def _head_of(start: Any, frozen: Any, targets: Targets) -> Head | None:
    """The head to begin with, if it answers the same question about the same features."""
    stored = getattr(start, "_head", None)
    if stored is None or start._fitted_task != targets.task:
        return None
    if len(stored["bias"]) != targets.values.shape[1]:
        return None
    if targets.classes is not None and not np.array_equal(start.classes_, targets.classes):
        return None
    names = (each.get_feature_names_out() for each in (start.features_, frozen))
    if not np.array_equal(*names):
        return None
    if targets.location is None:
        return Head.from_state(stored)
    (old_mean, old_scale), (mean, scale) = start._location, targets.location
    weight = stored["weight"] * (old_scale / scale)[:, None]
    bias = (stored["bias"] * old_scale + old_mean - mean) / scale
    return Head(stored["mean"], stored["scale"], weight, bias)


def _head_on_frozen(frozen: Any, X: Any, targets: Targets) -> Head:
    features = frozen.transform(X)
    features = np.asarray(features)
    rows = np.flatnonzero((targets.weights > 0) & np.isfinite(features).all(axis=1))
    return fit_head(
        features[rows], targets.values[rows], targets.weights[rows], task=targets.task, final=True
    )


def forget_table(estimator: Any) -> None:
    """Drop what an earlier fit may have noted of a table."""
    for name in SEEN & vars(estimator).keys():
        delattr(estimator, name)
