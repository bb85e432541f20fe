"""Compare series per second for unequal lengths with peers, on a CPU.

The series are random walks of 16 to 1,024 steps, uniform in the logarithm, in random order. All
contestants run the default LSTM on the same view ("z", each series normalised) with the same
pooling (mean):

    ours                RNNSequenceFeatures.transform, from raw series
    padded batches      batches in the order given, padded to their longest; masked mean
    packed batches      the same with pack_padded_sequence(enforce_sorted=False)
    one by one          a series at a time, the reference for all features
    ours, bfloat16      precision="bfloat16"
    ours, GRU           another network, of as many units with random weights

The loops get normalised series as tensors; this is not part of their time, but of ours. Interleaved
rounds, medians; ratios are medians of the rounds' own ratios.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from _common import interleaved, medians, parser, ratio, write_result
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from sktransfer import RNNSequenceFeatures

SHORTEST, LONGEST = 16, 1024
BATCH_SIZE = 64
OURS, ALONE, OTHER_NETWORK = "ours", "one by one", "ours, GRU"
PEERS = ("padded batches", "packed batches", ALONE)

Series = list[torch.Tensor]


def random_walks(n: int) -> list[np.ndarray]:
    """Series of (time,)."""
    rng = np.random.default_rng(0)
    logarithms = rng.uniform(np.log(SHORTEST), np.log(LONGEST), n)
    return [rng.normal(size=int(length)).cumsum() for length in np.exp(logarithms).round()]


def normalised(one: np.ndarray) -> torch.Tensor:
    """A series of (time, 1) as view "z" shows it."""
    return torch.from_numpy((one - one.mean()) / one.std()).float()[:, None]


def batches(series: Series) -> Iterator[tuple[Series, torch.Tensor]]:
    for start in range(0, len(series), BATCH_SIZE):
        batch = series[start : start + BATCH_SIZE]
        yield batch, torch.tensor([len(one) for one in batch])


@torch.inference_mode()
def padded(network: torch.nn.RNNBase, series: Series) -> np.ndarray:
    parts = []
    for batch, lengths in batches(series):
        states, _ = network(pad_sequence(batch))
        inside = torch.arange(len(states))[:, None] < lengths
        parts.append((states * inside[:, :, None]).sum(0) / lengths[:, None])
    return torch.cat(parts).numpy()


@torch.inference_mode()
def packed(network: torch.nn.RNNBase, series: Series) -> np.ndarray:
    parts = []
    for batch, lengths in batches(series):
        steps = pack_padded_sequence(pad_sequence(batch), lengths, enforce_sorted=False)
        states, _ = pad_packed_sequence(network(steps)[0])
        parts.append(states.sum(0) / lengths[:, None])  # padding comes back as zeros
    return torch.cat(parts).numpy()


@torch.inference_mode()
def one_by_one(network: torch.nn.RNNBase, series: Series) -> np.ndarray:
    return torch.cat([network(one[:, None])[0].mean(0) for one in series]).numpy()


def contestants(series: list[np.ndarray]) -> dict[str, Callable[[], np.ndarray]]:
    """Functions that return the features of all series."""
    estimator = partial(RNNSequenceFeatures, views="z", pooling="mean", append_stats=False)
    default = estimator().fit(series)
    network = default.module_.rnn  # time comes first
    tensors = [normalised(one) for one in series]
    gru = estimator("gru", weights="random", hidden_size=network.hidden_size, random_state=0)
    return {
        OURS: partial(default.transform, series),
        "padded batches": partial(padded, network, tensors),
        "packed batches": partial(packed, network, tensors),
        ALONE: partial(one_by_one, network, tensors),
        "ours, bfloat16": partial(estimator(precision="bfloat16").fit(series).transform, series),
        OTHER_NETWORK: partial(gru.fit(series).transform, series),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    series = random_walks(options.n)
    ready = contestants(series)
    features = {name: work() for name, work in ready.items()}  # which is the warm-up, too
    apart = {
        name: float(np.abs(found - features[ALONE]).max())
        for name, found in features.items()
        if name != OTHER_NETWORK
    }
    seconds, others = interleaved(ready, options.rounds, warm_up=False)
    rates = {name: len(series) / value for name, value in medians(seconds).items()}
    ratios = {f"{OURS} / {peer}": ratio(seconds[peer], seconds[OURS]) for peer in PEERS}
    print(f"{'':<18} {'series/s':>9} {'largest difference':>19}")
    for name, rate in rates.items():
        difference = f"{apart[name]:.1e}" if name in apart else "-"
        print(f"{name:<18} {rate:>9.1f} {difference:>19}")
    for what, value in ratios.items():
        print(f"{what}: {value['paired']:.2f} ({value['least']:.2f} to {value['most']:.2f})")
    print(f"others had {others['median']:.0%} of the machine, {others['most']:.0%} at most")
    return {
        "threads": options.threads,
        "rounds": options.rounds,
        "series": len(series),
        "steps": sum(map(len, series)),
        "series_per_second": rates,
        "largest_difference": apart,
        "ratios": ratios,
        "seconds": seconds,
        "others": others,
    }


def main() -> None:
    options_of = parser(__doc__, rounds=3)
    options_of.set_defaults(threads=1)
    options_of.add_argument("--n", type=int, default=2000)
    options = options_of.parse_args()
    if options.quick:
        options.rounds, options.n = 1, 64
    torch.set_num_threads(options.threads)
    result = run(options)
    if not options.quick:
        write_result("sequence_throughput", result)


if __name__ == "__main__":
    main()
