"""Texts as tokens, cut or split where they are too long, and padded into batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tokens:
    """Rows of tokens for a network: one per text, or several of a text that was split.

    Parameters
    ----------
    ids : ndarray of int64
        Tokens of all rows, one row after the other.
    starts, lengths : ndarray of int
        Position and number of the tokens of each row.
    counts : ndarray of int
        Rows of each text, which follow one another.
    totals : ndarray of int
        Tokens of each text before it was cut.
    pad_id : int or None
        Token that fills up rows, and stands for a text without tokens.
    """

    ids: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    pad_id: int | None

    def padded(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of some rows as (rows, time), padded at the end, and their mask of 0 and 1."""
        lengths = self.lengths[rows]
        within = np.arange(lengths.max())
        mask = within < lengths[:, None]
        positions = self.starts[rows][:, None] + np.minimum(within, lengths[:, None] - 1)
        # Any token would do, as the network is told to look away.
        ids = np.where(mask, self.ids[positions], self.pad_id or 0)
        return ids, mask.astype(np.int64)

    def rows_of(self, texts: np.ndarray) -> np.ndarray:
        """The rows of some texts, in their order."""
        first = np.cumsum(self.counts) - self.counts
        each = [np.arange(first[i], first[i] + self.counts[i]) for i in texts]
        return np.concatenate(each)


def limited(tokenizer: Any, max_length: int | None, side: str = "right") -> Any:
    """A copy of a tokenizer that leaves so many tokens of a text, special ones included.

    The others are cut off on its "right", or on its "left".
    """
    copied = type(tokenizer).from_str(tokenizer.to_str())
    if max_length is not None:
        copied.enable_truncation(max_length, direction=side)
    return copied


def tokenise(tokenizer: Any, texts: Sequence[str], split: bool, pad_id: int | None) -> Tokens:
    """Tokens of some texts, special ones included, by a tokenizer of `limited`.

    With `split` the tokens beyond its limit make another row instead of being cut off.

    Raises
    ------
    ValueError
        A text has no tokens, and there is no `pad_id`.
    """
    n_special = tokenizer.num_special_tokens_to_add(False)
    rows: list[list[int]] = []
    counts = np.ones(len(texts), dtype=np.int64)
    totals = np.empty(len(texts), dtype=np.int64)
    for number, encoding in enumerate(tokenizer.encode_batch_fast(list(texts))):
        ids = encoding.ids
        if not ids:  # of a tokenizer without special tokens
            if pad_id is None:
                raise ValueError(
                    f"the text {texts[number]!r:.60} has no tokens, and the tokenizer no special "
                    "token to stand for it; leave out rows without words"
                )
            ids = [pad_id]
        beyond = encoding.overflowing
        rows.append(ids)
        totals[number] = len(ids) + sum(len(part.ids) - n_special for part in beyond)
        if split and beyond:
            rows += [part.ids for part in beyond]
            counts[number] += len(beyond)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    ids = np.fromiter((i for row in rows for i in row), dtype=np.int64, count=int(lengths.sum()))
    return Tokens(ids, np.cumsum(lengths) - lengths, lengths, counts, totals, pad_id)
