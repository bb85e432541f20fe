"""Training of a body and a head under a strategy, with skorch."""

import copy
import math
import numbers
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.helper import predefined_split
from torch import Tensor

from sktransfer._validation import Seed, callers_level
from sktransfer.finetuning.averaging import (
    ALPHAS,
    FIXED_ALPHA,
    Ends,
    ends_between,
    interpolate_between,
    snapshot,
)
from sktransfer.finetuning.batches import Batches, Inputs, TrainingRows
from sktransfer.finetuning.checkpoints import Checkpoint
from sktransfer.finetuning.held_out import (
    HeldOutScores,
    Split,
    Verdict,
    folds_to_judge,
    judge,
    row_losses,
    split_to_stop,
)
from sktransfer.finetuning.identity import training_identity
from sktransfer.finetuning.network import Body, LinearHead, TunedNetwork
from sktransfer.finetuning.objective import Objective, TaskLoss
from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.penalties import channel_attention, loss_increase
from sktransfer.finetuning.priors import log_prior, row_prior
from sktransfer.finetuning.probing import fit_head
from sktransfer.finetuning.progress_files import OpenFiles
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.rate_finding import find_rate, with_rate
from sktransfer.finetuning.skorch_net import (
    FineTuningNet,
    average_callbacks,
    make_net,
    own_callbacks,
    penalty_weight,
    schedule_callbacks,
    step_callbacks,
    with_learning_rate,
)
from sktransfer.finetuning.steps import LinearWarmup, ProgressMonitor
from sktransfer.finetuning.strategy import FIND, SCHEDULE_CALLBACKS, FineTune, is_chosen
from sktransfer.finetuning.targets import Targets
from sktransfer.finetuning.trainable import restricted
from sktransfer.finetuning.unfreezing import resolve_unfreeze
from sktransfer.networks.seeding import everything_seeded, seeded

_PROBE_ROWS = 5000
"""Most rows that an initial head is fitted to: more take minutes and hardly change it."""

_JUDGED_ROWS = 2000
"""Most held-out rows by which the tuned network is compared with the frozen one."""

_VALUES_OF_BATCH, _VALUES = 256, 2000
"""Least values of a channel, in a batch and in all rows, from which statistics are learned."""

_STEPS = 100
"""Least steps for it."""

_LEAST_EPOCHS = 10
"""Of ``epochs=None``."""

_NOT_IN_HISTORY = ("train_batch_count", "valid_batch_count")


def seed_of(strategy: FineTune, random_state: Seed) -> int:
    """Seed of a training, from the strategy's random state or else that of its estimator."""
    state = random_state if strategy.random_state is None else strategy.random_state
    return int(check_random_state(state).randint(2**31 - 1))


@dataclass
class Tuned:
    """A tuned network.

    Parameters
    ----------
    net : FineTuningNet
    trained : tuple of str
        Names of the body's parameters that were trained.
    interrupted : bool
        Whether the user ended it early.
    ends : Ends or None
        With ``interpolate=``, what lies between the source network and the tuned one.
    alpha : float or None
        Where the network lies between them.
    learning_rate : float
        Peak rate.
    rate_curve : dict of str to ndarray, or None
        The range test that has found the rate.
    """

    net: FineTuningNet
    trained: tuple[str, ...]
    interrupted: bool
    learning_rate: float
    ends: Ends | None = None
    alpha: float | None = None
    rate_curve: dict[str, np.ndarray] | None = None

    @property
    def network(self) -> TunedNetwork:
        """Body and head."""
        return self.net.module_

    @property
    def head(self) -> LinearHead:
        """The head alone."""
        return self.network.head

    @property
    def history(self) -> list[dict[str, Any]]:
        """Numbers that skorch and callbacks have recorded for each epoch, without its batches."""
        return [
            {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in epoch.items()
                if name in Verdict._fields or (_is_number(value) and name not in _NOT_IN_HISTORY)
            }
            for epoch in self.net.history
        ]

    @property
    def n_trained(self) -> int:
        """Number of trained parameters, including the head's."""
        return self.network.n_trained(self.trained)


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
        training = _Training(
            tunable, inputs, targets, strategy, trained, seed, head, batch_norm, files
        )
        tuned = _judged(training, rows, split, draw, progress)
        if not tuned.interrupted:
            files.remove()
    return tuned


def _judged(
    training: "_Training",
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
        return _finished(net)
    features = training.features(split.train, draw, split.held_out[:_JUDGED_ROWS])
    source = copy.deepcopy(tunable.body.module.state_dict())
    held_out = []
    for number, fold in enumerate(folds, start=1):
        label = progress and f"{progress}, fold {number} of {len(folds)}"
        net = training.run(fold, features, np.random.RandomState(seed), label)
        if net.interrupted:
            return _finished(net)
        held_out.append(training.held_out_scores(net, features, fold))
        tunable.body.module.load_state_dict(source)
    net = training.run(split, features, draw, progress)
    if net.interrupted:
        return _finished(net)
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
        return _finished(net)
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


class _Features(NamedTuple):
    """Features of some rows by the network of the source."""

    rows: np.ndarray  # ascending
    values: np.ndarray

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of the given rows that are known, and their features."""
        known = np.isin(self.rows, rows)
        return self.rows[known], self.values[known]


@dataclass(frozen=True)
class _Training:
    """What all trainings of a fit have in common.

    `head` is the initial one; None fits one.
    """

    tunable: Tunable
    inputs: Inputs
    targets: Targets
    strategy: FineTune
    trained: tuple[str, ...]
    seed: int
    head: LinearHead | None
    batch_norm: str
    files: OpenFiles

    @property
    def prior(self) -> np.ndarray | None:
        """Shares of the classes in the training rows; None for numbers."""
        of_numbers = self.targets.task == "regression"
        return None if of_numbers else row_prior(self.targets, self.strategy.sampler)

    @property
    def shift(self) -> Tensor:
        """What the loss adds to the scores in training: these stand for the shares of the rows."""
        shift = make_task_loss(self.strategy, self.targets.task, self.prior).shift
        return torch.zeros(()) if shift is None else shift

    @property
    def sampling_shift(self) -> Tensor:
        """What a sampler changes in the scores, from the shares of the rows to those it draws."""
        if self.prior is None or self.strategy.sampler is None:
            return torch.zeros(())
        task = self.targets.task
        drawn = log_prior(self.prior, task) - log_prior(row_prior(self.targets), task)
        return torch.from_numpy(drawn).float()

    def features(
        self, rows: np.ndarray, draw: np.random.RandomState, held_out: np.ndarray | None = None
    ) -> _Features:
        """Features for heads: of rows to train on, not too many of them, and of held-out rows."""
        sample = rows[self.targets.labelled[rows]]
        if self.head is not None and held_out is None:
            return _Features(sample[:0], np.empty((0, 0)))
        if len(sample) > _PROBE_ROWS:
            sample = draw.choice(sample, _PROBE_ROWS, replace=False)
        sample = np.sort(sample if held_out is None else np.concatenate([sample, held_out]))
        features = extract_features(
            self.tunable.body, self.inputs, sample, self.strategy.batch_size, self.tunable.device
        )
        if not np.isfinite(features).all():
            row = sample[np.flatnonzero(~np.isfinite(features).all(1))[0]]
            raise ValueError(
                f"the network's features of X[{row}] are NaN or infinite; check its weights"
            )
        return _Features(sample, features)

    def initial_head(
        self, features: _Features, rows: np.ndarray, draw: np.random.RandomState
    ) -> LinearHead:
        """The head to begin with."""
        if self.head is not None:
            return copy.deepcopy(self.head)
        known, values = features.of(rows)
        targets, random = self.targets, self.strategy.head_init == "random"
        head = fit_head(
            values,
            targets.values[known],
            targets.weights[known],
            task=targets.task,
            random=draw if random else None,
        )
        if not random:  # its scores stand for the shares of the rows, and the loss adds these
            head.rescale_scores(1.0, -self.shift)
        return head

    def final_head(self, features: _Features, rows: np.ndarray) -> LinearHead:
        """The head of the frozen network, for the same shares of the classes as the tuned one."""
        known, values = features.of(rows)
        targets = self.targets
        head = fit_head(
            values, targets.values[known], targets.weights[known], task=targets.task, final=True
        )
        head.rescale_scores(1.0, self.sampling_shift)
        return head

    @property
    def points(self) -> tuple[float | None, ...]:
        """Between source and tuned weights, the points that come into question."""
        asked: Any = self.strategy.interpolate
        return ALPHAS if is_chosen(asked) else (None if asked is None else float(asked),)

    def best_point(self, net: FineTuningNet, split: Split) -> float:
        """The point of least loss on held-out rows."""
        rows = split.held_out
        losses = {}
        for alpha in ALPHAS:
            net.move_to(alpha)
            scores = scores_of(net, TrainingRows(self.inputs, self.targets, rows))
            losses[alpha] = self.targets.weights[rows] @ row_losses(scores, self.targets, rows)
        return min(losses, key=losses.__getitem__)

    def held_out_scores(
        self, net: FineTuningNet, features: _Features, split: Split
    ) -> list[HeldOutScores]:
        """Scores of a net at each point, and of a head on frozen features, for held-out rows."""
        rows, values = features.of(split.held_out)
        tuned = []
        for alpha in self.points:
            if alpha is not None:
                net.move_to(alpha)
            scores = scores_of(net, TrainingRows(self.inputs, self.targets, rows))
            tuned.append(scores + self.shift.numpy())
        with torch.inference_mode():
            head = self.final_head(features, split.train)
            frozen = head(head.standardise(torch.from_numpy(values).float())).double().numpy()
        return [HeldOutScores(rows, scores, frozen) for scores in tuned]

    def run(
        self,
        split: Split,
        features: _Features,
        draw: np.random.RandomState,
        progress: str | None,
    ) -> FineTuningNet:
        """Train the network from its present weights."""
        tunable, targets, strategy = self.tunable, self.targets, self.strategy
        # Without trained weights in the body its features are those of the source.
        penalty = strategy.penalty if self.trained else None
        file = None if strategy.checkpoint is None else self.files.open(self._identity(split))
        saved = None if file is None else file.read()
        # Dropout and initialisations draw from torch's global generator, augment= from any.
        with _seeded_for(strategy, self.seed):
            head = self.initial_head(features, split.train, draw)
            network = TunedNetwork(
                tunable.body,
                head.to(tunable.device),
                self.trained,
                self.batch_norm,
                compare={"delta": "maps", "rkd": "features"}.get(penalty or ""),
                precision=strategy.precision,
                recompute=strategy.recompute_activations,
                **_partly(strategy, tunable.body, self.trained),
            ).to(tunable.device)
            objective = Objective(
                make_task_loss(strategy, targets.task, self.prior),
                None if penalty == "l2-sp" else penalty,  # a callback, not part of the loss
                penalty_weight(strategy),
                strategy.alignment,
                strategy.alignment_weight,
                head.weight.shape[1],
            )
            sampling = _sampling_options(strategy, targets, draw)
            dataset = TrainingRows(self.inputs, targets, split.train, **sampling)
            if penalty == "delta":
                objective.channel_weights = _channel_weights(network, objective, dataset, strategy)
            curve = None
            if strategy.learning_rate == FIND:
                rate, curve = find_rate(
                    network, objective, dataset, strategy, penalty, tunable.device, self.seed
                )
                strategy = with_rate(strategy, rate)
            n_steps = len(Batches(dataset, strategy.batch_size * strategy.accumulate))
            n_epochs = epochs_of(strategy, n_steps)
            watch = ProgressMonitor(n_epochs * n_steps, n_epochs, progress, strategy.learning_rate)
            callbacks = [
                ("monitor", watch),
                # Before the scheduler, as L2-SP needs the learning rate of the step that was taken.
                *step_callbacks(network, strategy, penalty),
                *own_callbacks(strategy),
                # Last, as early stopping ends the epoch for those after it.
                *schedule_callbacks(network, strategy, n_steps, n_epochs, split.stops),
            ]
            before = None if strategy.interpolate is None else snapshot(network)
            if file is not None:
                callbacks.append(
                    ("checkpoint", Checkpoint(file, saved, callable(strategy.augment)))
                )
            outputs = Outputs.of(targets)
            net = make_net(
                network, objective, strategy, n_epochs, tunable.device, callbacks, outputs
            )
            net.rate_curve = curve
            if split.stops:
                held_out = TrainingRows(self.inputs, targets, split.held_out)
                net.set_params(train_split=predefined_split(held_out))
            net.fit(dataset)
        if before is not None:
            net.ends = ends_between(before, network)
            net.move_to(FIXED_ALPHA if len(self.points) > 1 else float(self.points[0] or 0))
        network.freeze()  # else low-rank updates would follow the weights into the next training
        return net

    def _identity(self, split: Split) -> str:
        """The name of the checkpoint of a training on some rows."""
        body, strategy = self.tunable.body, self.strategy
        some = split.train[: strategy.batch_size]
        size, device = strategy.batch_size, self.tunable.device
        features = extract_features(body, self.inputs, some, size, device)
        held_out = split.held_out if split.stops else None
        return training_identity(
            body,
            self.inputs,
            features,
            self.targets,
            split.train,
            held_out,
            strategy,
            self.seed,
            self.head,
        )


def _finished(net: FineTuningNet) -> Tuned:
    """The result of a training, whose weights are frozen from now on."""
    _drop_unfinished(net)
    freeze_for_inference(net.module_)
    return Tuned(
        net,
        net.module_.unfrozen_names(),
        net.interrupted,
        float(net.lr),
        net.ends,
        net.alpha,
        net.rate_curve,
    )


def epochs_of(strategy: FineTune, n_steps: int) -> int:
    """Number of epochs of so many steps each."""
    if strategy.epochs is not None:
        return strategy.epochs
    return max(_LEAST_EPOCHS, math.ceil(strategy.min_steps / n_steps))


def batch_norm_mode(strategy: FineTune, n_rows: int, n_positions: int) -> str:
    """Whether batch norm is "frozen", or its statistics "update".

    Parameters
    ----------
    strategy : FineTune
    n_rows : int
        Rows to train on.
    n_positions : int
        Of the smallest maps.
    """
    if strategy.batch_norm != "auto":
        return strategy.batch_norm
    if strategy.penalty is not None or strategy.alignment is not None:
        # Other statistics would lead away from the source, or be those of two domains at once.
        return "frozen"
    in_batch = min(strategy.batch_size, n_rows) * n_positions
    steps_per_epoch = max(1, round(n_rows / (strategy.batch_size * strategy.accumulate)))
    enough = (
        in_batch >= _VALUES_OF_BATCH
        and n_rows * n_positions >= _VALUES
        # With fewer steps the averages would still hold much of the source's statistics.
        and epochs_of(strategy, steps_per_epoch) * steps_per_epoch >= _STEPS
    )
    return "update" if enough else "frozen"


def scores_of(net: FineTuningNet, rows: TrainingRows) -> np.ndarray:
    """Scores of some rows, (n, n_outputs), by a net as it is."""
    return np.concatenate([part.double().numpy() for part in net.forward_iter(rows)])


def make_task_loss(strategy: FineTune, task: str, prior: np.ndarray | None) -> TaskLoss:
    """The loss of a strategy; `prior` has the shares of the classes in the training rows.

    Raises
    ------
    ValueError
        The loss is one of classes, and the targets are numbers.
    """
    if strategy.loss == "cross-entropy":
        return TaskLoss(task, strategy.label_smoothing)
    if task == "regression":
        raise ValueError(
            f"loss={strategy.loss!r} is for classes and labels, and y makes this regression, whose "
            "loss is the squared error; set loss='cross-entropy', the default"
        )
    if strategy.loss == "focal":
        return TaskLoss(task, strategy.label_smoothing, gamma=strategy.focal_gamma)
    shift = None if prior is None else torch.from_numpy(log_prior(prior, task)).float()
    return TaskLoss(task, strategy.label_smoothing, shift=shift)


def rebuild(
    body: Body,
    head: Mapping[str, np.ndarray],
    trained: tuple[str, ...],
    strategy: FineTune,
    outputs: Outputs,
    device: str,
    history: list[dict[str, Any]],
    ends: Ends | None = None,
    alpha: float | None = None,
    prior: np.ndarray | None = None,
) -> Tuned:
    """Restore a tuned network from a file, without its source network and optimizer state.

    `prior` has the shares of the classes in the training rows, for the logit-adjusted loss.
    """
    strategy = with_learning_rate(strategy, body, trained)
    linear = LinearHead.from_state(head)
    # "auto" depends on the rows of the first training, which are not known here.
    batch_norm = "update" if strategy.batch_norm == "update" else "frozen"
    partly = _partly(strategy, body, trained)
    with seeded(0):
        network = TunedNetwork(
            body,
            linear,
            trained,
            batch_norm,
            None,
            precision=strategy.precision,
            recompute=strategy.recompute_activations,
            **partly,
        )
    network.to(device)
    loss = make_task_loss(strategy, outputs.task, prior)
    objective = Objective(loss, None, 0, None, 0, linear.weight.shape[1])
    watch = ProgressMonitor(1, 1, None, strategy.learning_rate)
    callbacks = [
        ("monitor", watch),
        *step_callbacks(network, strategy, None),
        *own_callbacks(strategy),
    ]
    net = make_net(network, objective, strategy, 1, device, callbacks, outputs)
    with seeded(0):
        net.initialize()
    for epoch in history:
        net.history.new_epoch()
        for name, value in epoch.items():
            net.history.record(name, value)
    network.freeze()
    return Tuned(net, trained, False, float(net.lr), ends, alpha)


def continue_training(
    tuned: Tuned, inputs: Inputs, targets: Targets, strategy: FineTune, seed: int
) -> None:
    """Train a tuned network for one more epoch, with learning rates that rise to their peak."""
    net, network = tuned.net, tuned.network
    strategy = with_learning_rate(strategy, network.body, tuned.trained)
    rows = np.flatnonzero(targets.weights > 0)
    if not len(rows):
        raise ValueError("there is nothing to learn from: no row of X was read and has a weight")
    dataset = TrainingRows(
        inputs, targets, rows, **_sampling_options(strategy, targets, np.random.RandomState(seed))
    )
    step_rows = strategy.batch_size * strategy.accumulate
    n_steps = len(Batches(dataset, step_rows))
    watch = ProgressMonitor(n_steps, 1, None, strategy.learning_rate)
    net.callbacks_ = [
        (name, watch if name == "monitor" else each)
        for name, each in net.callbacks_
        if name not in SCHEDULE_CALLBACKS
    ]
    # The rows may differ from earlier ones: full steps at once would undo much of what was learned.
    net.callbacks_.append(("rate", LinearWarmup(n_steps)))
    net.callbacks_.extend(average_callbacks(strategy, n_steps))
    # An error or an interrupt must leave the estimator as it was.
    parts = (network, net.criterion_, net.optimizer_)
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    n_epochs = len(net.history)
    network.match_source_input()
    ends = tuned.ends
    try:
        if ends is not None:  # training goes on from the tuned end, not from between
            interpolate_between(ends, 1, network)
            source = snapshot(network)
            source |= {name: torch.from_numpy(first) for name, (first, _) in ends.items()}
        with _seeded_for(strategy, seed):
            network.unfreeze_again()
            if strategy.tune == "lora" and tuned.trained:
                net.initialize_optimizer()  # for the new factors
            # The schedule of the first training has left the rates at its end, which may be 0.
            for group in net.optimizer_.param_groups:
                group["lr"] = strategy.learning_rate * group["factor"]
            net.set_params(max_epochs=1, train_split=None, batch_size=strategy.batch_size)
            # skorch sets parameters of an iterator before a net is initialised, and not after.
            net.iterator_train__batch_size = step_rows
            net.partial_fit(dataset)
        if ends is not None:
            assert tuned.alpha is not None
            ends = ends_between(source, network)
            interpolate_between(ends, tuned.alpha, network)
        _drop_unfinished(net)
        freeze_for_inference(network)
    except BaseException:
        network.freeze()
        net.optimizer_ = parts[-1]
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        del net.history[n_epochs:]
        raise
    tuned.interrupted = net.interrupted
    tuned.ends = ends


def _seeded_for(strategy: FineTune, seed: int) -> AbstractContextManager[None]:
    """The generators that a training may draw from, seeded, and restored behind it."""
    return everything_seeded(seed) if callable(strategy.augment) else seeded(seed)


def raise_interrupt(tuned: Tuned | None) -> None:
    """Raise the KeyboardInterrupt that skorch caught, once the estimator is in a valid state."""
    if tuned is not None and tuned.interrupted:
        raise KeyboardInterrupt(
            f"fine-tuning was interrupted in epoch {len(tuned.history) + 1}; the estimator can be "
            "used as it is"
        )


def freeze_for_inference(network: TunedNetwork) -> None:
    """Set evaluation mode, freeze all parameters, and check that they are finite."""
    network.freeze()
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise ValueError(
            "fine-tuning diverged: weights are NaN or infinite; lower learning_rate, or set "
            "gradient_clip=1.0"
        )


def extract_features(
    body: Body, inputs: Inputs, rows: np.ndarray, batch_size: int, device: torch.device
) -> np.ndarray:
    """Features of some rows by the untuned body."""
    body.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            batch = inputs.batch(rows[start : start + batch_size], training=False)
            parts.append(body(to_device(batch, device)).cpu().numpy())
    return np.concatenate(parts)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move a tensor, or a tuple of them, to a device."""
    return batch.to(device) if isinstance(batch, Tensor) else tuple(t.to(device) for t in batch)


def _partly(strategy: FineTune, body: Body, trained: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of `TunedNetwork` for a `tune` that trains a part of what is unfrozen."""
    if strategy.tune == "all" or not trained:
        return {}
    unfrozen = resolve_unfreeze(strategy.unfreeze, body.stages)
    return {"unfrozen": unfrozen, "rank": strategy.rank if strategy.tune == "lora" else None}


def _is_number(value: Any) -> bool:
    # Truth values tell about the best epoch so far, which the numbers tell, too.
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def _drop_unfinished(net: NeuralNet) -> None:
    """Drop the record of an interrupted epoch."""
    if net.history and "dur" not in net.history[-1]:
        del net.history[-1]


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


def _sampling_options(
    strategy: FineTune, targets: Targets, draw: np.random.RandomState
) -> dict[str, Any]:
    """Arguments of `TrainingRows` that decide the order and the blending of training rows."""
    if strategy.sampler is not None and targets.task != "classification":
        raise ValueError(
            f"sampler={strategy.sampler!r} is for classification, and y makes this {targets.task}"
        )
    seed = draw.randint(2**31 - 1)
    return {"seed": seed, "sampler": strategy.sampler, "mixup": strategy.mixup}


def _channel_weights(
    network: TunedNetwork, objective: Objective, dataset: TrainingRows, strategy: FineTune
) -> Tensor:
    """Weight of each channel of the deepest stage by its effect on the initial head's loss."""
    device = next(network.parameters()).device
    network.eval()
    total: Tensor | None = None
    rows = dataset.rows[dataset.targets.labelled[dataset.rows]][:_PROBE_ROWS]
    n_batches = -(-len(rows) // strategy.batch_size)
    for some in np.array_split(rows, n_batches):
        inputs, target = dataset.take(some, training=False)
        with torch.enable_grad():
            features, maps = network.body.with_maps(to_device(inputs, device), leaf=True)
            scores = network.head(network.head.standardise(features))
            losses = objective.task_loss(scores, target["values"].to(device))
            gradient = torch.autograd.grad(losses.sum(), maps)[0]
        increase = loss_increase(maps.detach(), gradient)
        total = increase if total is None else total + increase
    assert total is not None
    return channel_attention(total / len(rows))
