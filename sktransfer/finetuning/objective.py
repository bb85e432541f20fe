"""The training objective: the loss of the task, plus a penalty and a domain alignment loss."""

import torch
from torch import Tensor, nn

from sktransfer.finetuning.alignment import (
    DomainDiscriminator,
    coral_loss,
    mmd_loss,
    reversal_strength,
)
from sktransfer.finetuning.network import NetworkOutput
from sktransfer.finetuning.penalties import delta_penalty, relational_penalty, spectral_shrinkage


class TaskLoss(nn.Module):
    """Cross entropy, binary cross entropy of several labels, or squared error of each row.

    `smoothing` is the share of each label that is spread over all classes. With `gamma` the cross
    entropies are focal losses (Lin et al. 2017, equation 4). `shift`, (n_outputs,), is added to the
    scores: the log shares of the classes, or the log odds of the labels, make it the logit-adjusted
    loss (Menon et al. 2021, equation 10).
    """

    def __init__(
        self, task: str, smoothing: float, gamma: float = 0.0, shift: Tensor | None = None
    ) -> None:
        super().__init__()
        self.task = task
        self.smoothing = smoothing
        self.gamma = gamma
        self.shift: Tensor | None
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, scores: Tensor, values: Tensor) -> Tensor:
        """Loss of each row, (n,), for `scores` and `values` of shape (n, n_outputs)."""
        if self.task == "regression":
            return (scores - values).square().mean(1)
        if self.shift is not None:
            scores = scores + self.shift
        n_options = values.shape[1] if self.task == "classification" else 2
        # Not in evaluation: the loss on held-out rows should not depend on the smoothing.
        if self.training and self.smoothing:
            values = values * (1 - self.smoothing) + self.smoothing / n_options
        if self.task == "classification":
            return self._focused(values, scores.log_softmax(1)).sum(1)
        if not self.gamma:  # torch computes both terms at once
            losses = nn.functional.binary_cross_entropy_with_logits(
                scores, values, reduction="none"
            )
            return losses.mean(1)
        yes = self._focused(values, nn.functional.logsigmoid(scores))
        return (yes + self._focused(1 - values, nn.functional.logsigmoid(-scores))).mean(1)

    def _focused(self, values: Tensor, log_p: Tensor) -> Tensor:
        """Terms of the cross entropy, weighted by (1 - p) to the power of gamma."""
        if not self.gamma:
            return -values * log_p
        # Where p rounds to 1 the power of zero would have an infinite gradient for gamma below 1.
        rest = -torch.expm1(log_p.clamp(max=-torch.finfo(log_p.dtype).tiny))
        return -values * rest**self.gamma * log_p


class Objective(nn.Module):
    """The criterion for skorch, with the penalties but "l2-sp", which is a `PullToSource`.

    `channel_weights` are for "delta"; `progress`, the share of the training that is done, scales
    the reversed gradient of "dann".
    """

    def __init__(
        self,
        task_loss: TaskLoss,
        penalty: str | None,
        penalty_weight: float,
        alignment: str | None,
        alignment_weight: float,
        n_features: int,
        channel_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.task_loss = task_loss
        self.penalty = penalty
        self.penalty_weight = penalty_weight
        self.alignment = alignment
        self.alignment_weight = alignment_weight
        self.channel_weights: Tensor
        self.register_buffer("channel_weights", channel_weights)
        self.discriminator = DomainDiscriminator(n_features) if alignment == "dann" else None
        self.progress = 0.0

    def forward(self, output: NetworkOutput, target: dict[str, Tensor]) -> Tensor:
        """Loss of a batch; in evaluation mode that of the task alone.

        Where the target holds `n_rows` and `n_labelled` of all batches of a step, the losses of
        these add up to that of the step.
        """
        labelled = target["labelled"]
        n_labelled = target.get("n_labelled", labelled.sum()).clamp(min=1)
        scores = output.scores
        if "partners" in target:  # mixup of rows that are not blended yet
            scores = torch.lerp(scores[target["partners"]], scores, target["share"][:, None])
        # Rows without a label have weight zero.
        losses = self.task_loss(scores, target["values"]) * target["weights"]
        if "share" in target:  # mixup
            partner_losses = self.task_loss(scores, target["other_values"])
            losses = torch.lerp(partner_losses * target["other_weights"], losses, target["share"])
        loss: Tensor = losses.sum() / n_labelled
        if not self.training:
            return loss
        share = len(labelled) / target["n_rows"] if "n_rows" in target else 1.0
        if self.penalty is not None and self.penalty_weight:
            loss = loss + share * self.penalty_weight * self._penalty(output)
        if self.alignment is not None:
            loss = loss + share * self.alignment_weight * self._gap(output.features, labelled)
        return loss

    def _penalty(self, output: NetworkOutput) -> Tensor:
        if self.penalty == "bss":
            return spectral_shrinkage(output.features)
        if self.penalty == "rkd":
            assert output.source is not None
            return relational_penalty(output.features, output.source)
        assert output.maps is not None
        assert output.source_maps is not None
        return delta_penalty(output.maps, output.source_maps, self.channel_weights)

    def _gap(self, features: Tensor, is_source: Tensor) -> Tensor:
        if self.discriminator is not None:
            strength = reversal_strength(self.progress)
            return self.discriminator(features, ~is_source, strength)
        gap = coral_loss if self.alignment == "coral" else mmd_loss
        return gap(features[is_source], features[~is_source])
