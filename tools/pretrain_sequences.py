"""Train the sequence weights that come with the package, from scratch.

    python tools/pretrain_sequences.py --backbone lstm --out lstm.safetensors

No real series are used. The network starts from its random initialisation and learns, over
thousands of small classification tasks on synthetic series, to pool into features from which a
ridge classifier, fitted in closed form on two variants of each concept, recognises the two
others; the loss is differentiated through the ridge solution [1]. The pooled features are those
of the estimator, shares above thresholds made smooth by a sigmoid.

[1] L. Bertinetto, J. F. Henriques, P. Torr and A. Vedaldi, "Meta-learning with differentiable
closed-form solvers", ICLR 2019.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from synthetic_series import draw_series
from torch import Tensor, nn

from sktransfer.backbones.recurrent import save_network
from sktransfer.sequences.recurrent import RecurrentNetwork, Shape

N_FAMILIES, N_SIBLINGS, N_VARIANTS = 24, 2, 4
LENGTHS = (24, 160)
N_THRESHOLDS = 2
GOLDEN = (math.sqrt(5) - 1) / 2
WARM_UP = 50
N_REFERENCES = 24


class RidgeLoss(nn.Module):
    """Cross-entropy of a ridge classifier fitted on half of the variants, on the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.log_penalty = nn.Parameter(torch.tensor(math.log(0.1)))

    def forward(self, features: Tensor, concepts: Tensor) -> tuple[Tensor, float]:
        """Loss and accuracy."""
        features = F.batch_norm(features, None, None, training=True) / math.sqrt(features.shape[1])
        support = torch.arange(len(features)) % N_VARIANTS < N_VARIANTS // 2
        known, asked = features[support], features[~support]
        targets = 2 * F.one_hot(concepts[support]).float() - 1
        gram = known @ known.T + self.log_penalty.exp() * torch.eye(len(known))
        scores = asked @ known.T @ torch.linalg.solve(gram, targets)
        accuracy = (scores.argmax(1) == concepts[~support]).float().mean()
        return F.cross_entropy(scores * self.log_scale.exp(), concepts[~support]), float(accuracy)


def features_of(states: Tensor) -> Tensor:
    """The estimator's poolings, copied here so that the training can be repeated.

    Shares above thresholds are smooth, and the thresholds plain quantiles of some rows.
    """
    mean = states.mean(0)
    spread = ((states - mean).square().mean(0) + 1e-8).sqrt()
    pooled = [mean, states.amax(0), states.amin(0), spread, states[-1]]
    with torch.no_grad():
        some = states[:, torch.randperm(states.shape[1])[:N_REFERENCES]].flatten(0, 1)
        n_units = some.shape[1]
        levels = (torch.arange(1, N_THRESHOLDS * n_units + 1) * GOLDEN) % 1
        ranks = (levels.view(N_THRESHOLDS, n_units) * (len(some) - 1)).long()
        thresholds = some.sort(0).values.gather(0, ranks)
        width = 0.15 * some.std(0) + 1e-3
    pooled += [torch.sigmoid((states - threshold) / width).mean(0) for threshold in thresholds]
    return torch.cat(pooled, dim=1)


def draw_batch(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Time-major steps in one of the estimator's views, and the concepts."""
    n_steps = int(rng.integers(*LENGTHS))
    series, concepts = draw_series(rng, N_FAMILIES, N_SIBLINGS, N_VARIANTS, n_steps)
    if rng.uniform() < 0.5:
        series = np.diff(series, axis=1)
    if rng.uniform() < 0.6:
        spread = series.std(axis=1, keepdims=True) + 1e-6
        series = (series - series.mean(axis=1, keepdims=True)) / spread
    else:
        series = np.clip((series - series.mean()) / series.std(), -10, 10)
    steps = np.ascontiguousarray(series.T[:, :, None], dtype=np.float32)
    return torch.from_numpy(steps), torch.from_numpy(concepts)


def pretrain(shape: Shape, n_batches: int, seed: int, learning_rate: float) -> RecurrentNetwork:
    """Train a network on a number of batches."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network, objective = RecurrentNetwork.initialised(shape, seed), RidgeLoss()
    parameters = [*network.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda n: min(1, (n + 1) / WARM_UP) * (1 + math.cos(math.pi * n / n_batches)) / 2,
    )
    recent = []
    for number in range(1, n_batches + 1):
        steps, concepts = draw_batch(rng)
        loss, accuracy = objective(features_of(network(steps)), concepts)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append((float(loss.detach()), accuracy))
        if number % 250 == 0:
            means = np.mean(recent, axis=0)
            print(f"{number} batches: loss {means[0]:.3f}, accuracy {means[1]:.3f}", flush=True)
            recent.clear()
    return network


def main() -> None:
    """Parse the command line, train, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=("lstm", "gru"), default="lstm")
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=2500, help="of 192 series each")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more give other rounding")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = Shape(arguments.backbone, 1, arguments.hidden_size)
    network = pretrain(shape, arguments.batches, arguments.seed, arguments.learning_rate)
    save_network(network, arguments.out)


if __name__ == "__main__":
    main()
