"""From texts to one vector each: tokens, batches, network, and back in order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer.networks.engines import Engine
from sktransfer.networks.layers import Read
from sktransfer.sequences.batching import batches_by_length
from sktransfer.texts.tokens import Tokens, tokenise

_ROWS_ON_CPU = 4
"""Rows of 128 tokens that a CPU takes at once: more leave its caches; see
benchmarks/text_throughput.py."""

_CHUNK = 4096
"""Texts that are held as tokens at once."""


@dataclass(frozen=True)
class TextPlan:
    """The tokenizer and the limits by which texts become rows of tokens.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        A result of `limited`.
    pad_id : int or None
    split : bool
        Whether long texts are split into several rows, not cut.
    batch_size : int
        Rows of 128 tokens.
    on_cpu : bool
        Then fewer run together.
    prompt : str, default=""
        What is put before each text.
    equal_lengths : bool, default=False
        Whether only rows of the same length run together.
    """

    tokenizer: Any
    pad_id: int | None
    split: bool
    batch_size: int
    on_cpu: bool
    prompt: str = ""
    equal_lengths: bool = False

    def tokens_of(self, texts: Sequence[str]) -> Tokens:
        """Tokens of some texts."""
        if self.prompt:
            texts = [self.prompt + text for text in texts]
        return tokenise(self.tokenizer, texts, self.split, self.pad_id)


def vectors_of(
    engine: Engine,
    reads: Sequence[Read],
    plan: TextPlan,
    texts: Sequence[str],
    progress: Callable[[int], object] = lambda n: None,
) -> tuple[list[np.ndarray], np.ndarray]:
    """One matrix per read, rows in the order of `texts`, and the tokens of each text.

    Parameters
    ----------
    engine : Engine
    reads : sequence of Read
        Outputs of `engine`.
    plan : TextPlan
    texts : sequence of str
        Without duplicates, if each is to be computed once.
    progress : callable
        Called with the number of texts that are done.
    """
    found: list[np.ndarray] = []
    n_tokens = np.empty(len(texts), dtype=np.int64)
    for chunk in chunks_by_length(texts, _CHUNK):
        tokens = plan.tokens_of([texts[i] for i in chunk])
        for number, matrix in enumerate(_run(engine, reads, plan, tokens, progress)):
            if number == len(found):
                found.append(np.empty((len(texts), matrix.shape[1]), dtype=np.float32))
            found[number][chunk] = matrix
        n_tokens[chunk] = tokens.totals
    return found, n_tokens


def chunks_by_length(texts: Sequence[str], size: int) -> list[np.ndarray]:
    """Numbers of the texts, some at a time, the longest first."""
    order = np.argsort([-len(text) for text in texts], kind="stable")
    return [order[i : i + size] for i in range(0, len(order), size)]


def _run(
    engine: Engine,
    reads: Sequence[Read],
    plan: TextPlan,
    tokens: Tokens,
    progress: Callable[[int], object],
) -> list[np.ndarray]:
    rows: list[np.ndarray] = []
    size = min(plan.batch_size, _ROWS_ON_CPU) if plan.on_cpu else plan.batch_size
    ends = np.zeros(len(tokens.lengths), dtype=np.int64)
    ends[np.cumsum(tokens.counts) - 1] = 1  # the last row of each text
    for batch in batches_by_length(tokens.lengths, size, equal=plan.equal_lengths):
        for number, matrix in enumerate(engine(*tokens.padded(batch))):
            if number == len(rows):
                shape = (len(tokens.lengths), matrix.shape[1])
                rows.append(np.empty(shape, dtype=np.float32))
            rows[number][batch] = matrix
        progress(int(ends[batch].sum()))
    if len(tokens.counts) == len(tokens.lengths):
        return rows
    counts, weights = torch.from_numpy(tokens.counts), torch.from_numpy(tokens.lengths)
    return [
        joined(torch.from_numpy(matrix), read.pooling, counts, weights).numpy()
        for matrix, read in zip(rows, reads, strict=True)
    ]


def joined(rows: Tensor, pooling: str, counts: Tensor, n_tokens: Tensor) -> Tensor:
    """One vector per text out of those of its rows.

    Means are weighted by tokens, so that they are the mean over all tokens; maxima are over all;
    class tokens and ready vectors are averaged.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, width)
    pooling : str
    counts : Tensor of shape (n_texts,)
        Rows of each text.
    n_tokens : Tensor of shape (n_rows,)
    """
    if len(counts) == len(rows):
        return rows
    if pooling != "mean":
        reduction = "max" if pooling == "max" else "mean"
        return torch.segment_reduce(rows, reduction, lengths=counts, axis=0)
    weights = n_tokens.to(rows.dtype)[:, None]
    total = torch.segment_reduce(weights, "sum", lengths=counts, axis=0)
    return torch.segment_reduce(rows * weights, "sum", lengths=counts, axis=0) / total


def assembled(
    parts: Sequence[Tensor], reads: Sequence[Read], combine: str, normalize: bool
) -> Tensor:
    """The features: vectors of layers and poolings, put together.

    Parameters
    ----------
    parts : sequence of Tensor of shape (n, width)
        One per read.
    reads : sequence of Read
        By layer, then pooling.
    combine : {"concat", "mean", "sum"}
        Combination of several layers.
    normalize : bool
        Whether rows are scaled to length 1.
    """
    if combine == "concat":
        features = torch.cat(list(parts), 1)
    else:
        by_layer: dict[str, list[Tensor]] = {}
        for read, part in zip(reads, parts, strict=True):
            by_layer.setdefault(read.layer, []).append(part)
        stacked = torch.stack([torch.cat(each, 1) for each in by_layer.values()])
        features = stacked.mean(0) if combine == "mean" else stacked.sum(0)
    return torch.nn.functional.normalize(features) if normalize else features
