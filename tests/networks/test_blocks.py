"""Reads lie in blocks of a store under names that stay, and are found in them again."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.testing import assert_array_equal

from sktransfer.images.keys import sample_of
from sktransfer.networks.blocks import ReadBlocks
from sktransfer.networks.layers import Read
from sktransfer.store.session import Block
from sktransfer.texts.stored_features import key_of

WIDTHS = {"a": 2, "b": 3}


class Layers(NamedTuple):
    """As much of a trace as is asked of it."""

    usual: tuple[Read, ...]

    def usual_reads(self):
        return self.usual

    def width(self, read):
        return WIDTHS[read.layer] * (4 if read.pooling == "flatten" else 1)


def together(read):
    kinds = ("mean", "max") if read.pooling in ("mean", "max") else (read.pooling,)
    return tuple(Read(read.layer, kind) for kind in kinds)


def blocks_of(*reads):
    usual = tuple(Read(layer, kind) for layer in "ab" for kind in ("mean", "max"))
    return ReadBlocks(Layers(usual), reads, together, {"mean": "avg"})


def test_blocks_have_the_names_that_stores_know_them_by():
    blocks = blocks_of(Read("b", "max"), Read("a", "flatten"), Read("b", "mean"), Read("a", "cls"))
    assert blocks.usual == (Block("a/avg+max", 4), Block("b/avg+max", 6))
    assert blocks.wanted == (Block("b/avg+max", 6), Block("a/flatten", 8), Block("a/cls", 2))


def test_what_was_joined_is_found_by_read():
    reads = (Read("b", "max"), Read("a", "flatten"), Read("b", "mean"))
    blocks = blocks_of(*reads)
    inside = blocks.reads_in(blocks.wanted)
    assert inside == (Read("b", "mean"), Read("b", "max"), Read("a", "flatten"))
    matrices = {read: np.full((2, Layers(()).width(read)), i) for i, read in enumerate(inside)}
    vectors = blocks.joined(blocks.wanted, matrices.values())
    assert {name: matrix.shape for name, matrix in vectors.items()} == {
        "b/avg+max": (2, 6),
        "a/flatten": (2, 8),
    }
    for read in reads:
        assert_array_equal(blocks.columns_of(read, vectors), matrices[read])
    filled = [np.zeros((3, matrices[read].shape[1])) for read in reads]
    blocks.fill(filled, np.array([2, 0]), vectors)
    for read, matrix in zip(blocks.reads, filled, strict=True):
        assert_array_equal(matrix[[2, 0]], matrices[read])
        assert not matrix[1].any()


def test_keys_are_those_under_which_samples_were_stored_before():
    image = np.arange(12, dtype="u1").reshape(2, 2, 3)
    digest = hashlib.sha256(b"('array', '|u1', (2, 2, 3))" + bytes(range(12))).digest()
    assert sample_of(image, 100).key == digest
    assert key_of("a b") == hashlib.sha256(b"texta b").digest()
