"""Training of a body and a head under a strategy, and the comparison with the frozen network."""

import copy
import warnings

import numpy as np

from sktransfer._validation import callers_level
from sktransfer.finetuning.continuing import rebuild
from sktransfer.finetuning.held_out import (
    Split,
    folds_to_judge,
    judge,
    split_to_stop,
)
from sktransfer.finetuning.network import LinearHead
from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.progress_files import OpenFiles
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.resolving import batch_norm_mode, make_task_loss, with_learning_rate
from sktransfer.finetuning.runs import Training
from sktransfer.finetuning.strategy import FineTune, is_chosen, with_rate
from sktransfer.finetuning.targets import Targets
from sktransfer.finetuning.trainable import restricted
from sktransfer.finetuning.tuned import Tuned, finished
from sktransfer.finetuning.unfreezing import resolve_unfreeze

_JUDGED_ROWS = 2000
"""Most held-out rows by which the tuned network is compared with the frozen one."""


def tune(
    tunable: Tunable,
    targets: Targets,
    strategy: FineTune,
    seed: int,
    *,
    progress: str | None = None,
    head: LinearHead | None = None,
) -> Tuned:
    """Fine-tune a network.

    Parameters
    ----------
    tunable : Tunable
    targets : Targets
        One row per row of X.
    strategy : FineTune
        With checked parameters.
    seed : int
        Seed of all random draws; the state of global generators is restored.
    progress : str or None, default=None
        Label of the progress bar; None for no bar.
    head : LinearHead or None, default=None
        Initial head; None makes one.

    Raises
    ------
    ValueError
        The strategy does not fit the network or the data, or training diverges.
    """
    if strategy.alignment is not None and targets.labelled.all():
        raise ValueError(
            f"alignment={strategy.alignment!r} needs rows of two domains; pass "
            "sample_domain to fit, positive for source and negative for target rows"
        )
    make_task_loss(strategy, targets.task, None)  # refuses a loss of classes for numbers
    stages = restricted(tunable.body.stages, tunable.body.module, strategy.tune)
    trained = resolve_unfreeze(strategy.unfreeze, stages, strategy.tune)
    strategy = with_learning_rate(strategy, tunable.body, trained)
    inputs, readable = tunable.inputs(trained, strategy)
    usable = targets.weights > 0
    if strategy.alignment is not None:
        usable |= ~targets.labelled
    usable &= readable
    targets.weights[~readable] = 0
    _check_rows(usable, targets, strategy)
    rows = np.flatnonzero(usable)
    draw = np.random.RandomState(seed)
    split = split_to_stop(rows, targets, strategy, draw)
    if strategy.scoring is not None and not split.stops:
        raise ValueError(
            f"scoring={strategy.scoring!r} needs held-out rows, and early_stopping="
            f"{strategy.early_stopping!r} holds out none of these {len(rows)}; set "
            "early_stopping=True, or scoring=None"
        )
    batch_norm = batch_norm_mode(strategy, len(rows), tunable.body.n_positions)
    with OpenFiles(strategy.checkpoint) as files:
        training = Training(
            tunable, inputs, targets, strategy, trained, seed, head, batch_norm, files
        )
        tuned = _judged(training, rows, split, draw, progress)
        if not tuned.interrupted:
            files.remove()
    return tuned


def _judged(
    training: Training,
    rows: np.ndarray,
    split: Split,
    draw: np.random.RandomState,
    progress: str | None,
) -> Tuned:
    """A tuned network, or that of the source where held-out rows say that it is better."""
    tunable, targets = training.tunable, training.targets
    strategy, seed = training.strategy, training.seed
    # In domain adaptation, held-out rows of the source do not tell what suits the target.
    guarded = bool(strategy.guard) and strategy.alignment is None
    folds = folds_to_judge(rows, targets, strategy, seed) if guarded and not split.stops else []
    if not (folds or (guarded and split.stops)):
        net = training.run(split, training.features(split.train, draw), draw, progress)
        if is_chosen(strategy.interpolate) and split.stops and not net.interrupted:
            net.move_to(training.best_point(net, split))
        return finished(net)
    features = training.features(split.train, draw, split.held_out[:_JUDGED_ROWS])
    source = copy.deepcopy(tunable.body.module.state_dict())
    held_out = []
    for number, fold in enumerate(folds, start=1):
        label = progress and f"{progress}, fold {number} of {len(folds)}"
        net = training.run(fold, features, np.random.RandomState(seed), label)
        if net.interrupted:
            return finished(net)
        held_out.append(training.held_out_scores(net, features, fold))
        tunable.body.module.load_state_dict(source)
    net = training.run(split, features, draw, progress)
    if net.interrupted:
        return finished(net)
    if not folds:
        held_out.append(training.held_out_scores(net, features, split))
    verdicts = [judge(parts, targets, strategy) for parts in zip(*held_out, strict=True)]
    number = min(range(len(verdicts)), key=lambda each: verdicts[each].tuned_loss)
    verdict, alpha = verdicts[number], training.points[number]
    if alpha is not None:
        net.move_to(alpha)
    for name, value in verdict._asdict().items():
        net.history.record(name, value)
    if not verdict.keeps_frozen:
        # The temperature is that of the scores with the shift of the loss.
        net.rescale_scores(verdict.temperature, training.shift * (1 / verdict.temperature - 1))
        return finished(net)
    warnings.warn(
        f"fine-tuning made the network worse: its loss on held-out rows is "
        f"{verdict.tuned_loss:.3g}, and {verdict.frozen_loss:.3g} with the weights of the source. "
        "These are kept, with a head of their own; set guard=False for the tuned network, or lower "
        "learning_rate",
        stacklevel=callers_level(),
    )
    tunable.body.module.load_state_dict(source)
    best = training.final_head(features, features.rows)
    best.rescale_scores(verdict.temperature, -training.shift)
    state = {name: tensor.detach().cpu().numpy() for name, tensor in best.state_dict().items()}
    history = Tuned(net, (), False, float(net.lr)).history
    strategy = with_rate(strategy, float(net.lr))
    outputs, device, prior = Outputs.of(targets), str(tunable.device), training.prior
    kept = rebuild(tunable.body, state, (), strategy, outputs, device, history, prior=prior)
    kept.rate_curve = net.rate_curve
    if strategy.interpolate is not None:  # there is nothing between a network and itself
        kept.ends, kept.alpha = {}, 1.0
    return kept


def _check_rows(usable: np.ndarray, targets: Targets, strategy: FineTune) -> None:
    """Check that the rows that could be read are enough to learn from."""
    labelled = usable & targets.labelled
    count = f"of {len(usable)} rows, {labelled.sum()} have a label and a weight and could be read"
    if not labelled.any():
        raise ValueError(f"there is nothing to learn from: {count}")
    if targets.task == "classification" and len(np.unique(targets.codes[labelled])) < 2:
        raise ValueError(f"fine-tuning needs at least 2 classes, and {count}, all of one class")
    if strategy.alignment is not None and not (usable & ~targets.labelled).any():
        raise ValueError(f"alignment={strategy.alignment!r}: no row of the target could be read")
