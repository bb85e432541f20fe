"""A single training with skorch, and the heads and scores that it needs."""

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch.helper import predefined_split
from torch import Tensor

from sktransfer.finetuning.averaging import (
    ALPHAS,
    FIXED_ALPHA,
    ends_between,
    snapshot,
)
from sktransfer.finetuning.batches import Batches, Inputs, TrainingRows
from sktransfer.finetuning.checkpoints import Checkpoint
from sktransfer.finetuning.held_out import (
    HeldOutScores,
    Split,
    row_losses,
)
from sktransfer.finetuning.identity import training_identity
from sktransfer.finetuning.network import Body, LinearHead, TunedNetwork
from sktransfer.finetuning.objective import Objective
from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.penalties import channel_attention, loss_increase
from sktransfer.finetuning.priors import log_prior, row_prior
from sktransfer.finetuning.probing import fit_head
from sktransfer.finetuning.progress_files import OpenFiles
from sktransfer.finetuning.protocols import Tunable
from sktransfer.finetuning.rate_finding import find_rate
from sktransfer.finetuning.resolving import (
    epochs_of,
    make_task_loss,
    partly_trained,
    sampling_options,
    seeded_for,
)
from sktransfer.finetuning.skorch_net import (
    FineTuningNet,
    make_net,
    own_callbacks,
    penalty_weight,
    schedule_callbacks,
    step_callbacks,
)
from sktransfer.finetuning.steps import ProgressMonitor
from sktransfer.finetuning.strategy import FIND, FineTune, is_chosen, with_rate
from sktransfer.finetuning.targets import Targets

_PROBE_ROWS = 5000
"""Most rows that an initial head is fitted to: more take minutes and hardly change it."""


class SourceFeatures(NamedTuple):
    """Features of some rows by the network of the source."""

    rows: np.ndarray  # ascending
    values: np.ndarray

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of the given rows that are known, and their features."""
        known = np.isin(self.rows, rows)
        return self.rows[known], self.values[known]


@dataclass(frozen=True)
class Training:
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
    ) -> SourceFeatures:
        """Features for heads: of rows to train on, not too many of them, and of held-out rows."""
        sample = rows[self.targets.labelled[rows]]
        if self.head is not None and held_out is None:
            return SourceFeatures(sample[:0], np.empty((0, 0)))
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
        return SourceFeatures(sample, features)

    def initial_head(
        self, features: SourceFeatures, rows: np.ndarray, draw: np.random.RandomState
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

    def final_head(self, features: SourceFeatures, rows: np.ndarray) -> LinearHead:
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
        self, net: FineTuningNet, features: SourceFeatures, split: Split
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
        features: SourceFeatures,
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
        with seeded_for(strategy, self.seed):
            head = self.initial_head(features, split.train, draw)
            network = TunedNetwork(
                tunable.body,
                head.to(tunable.device),
                self.trained,
                self.batch_norm,
                compare={"delta": "maps", "rkd": "features"}.get(penalty or ""),
                precision=strategy.precision,
                recompute=strategy.recompute_activations,
                **partly_trained(strategy, tunable.body, self.trained),
            ).to(tunable.device)
            objective = Objective(
                make_task_loss(strategy, targets.task, self.prior),
                None if penalty == "l2-sp" else penalty,  # a callback, not part of the loss
                penalty_weight(strategy),
                strategy.alignment,
                strategy.alignment_weight,
                head.weight.shape[1],
            )
            sampling = sampling_options(strategy, targets, draw)
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


def scores_of(net: FineTuningNet, rows: TrainingRows) -> np.ndarray:
    """Scores of some rows, (n, n_outputs), by a net as it is."""
    return np.concatenate([part.double().numpy() for part in net.forward_iter(rows)])


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
