"""Where labels come to rest that flow along the edges of a graph."""

from typing import NamedTuple

import numpy as np
from scipy import sparse

_LOST = 0.01
"""Of a row's probability, the most that a solver may leave open."""


class Flow(NamedTuple):
    """Probabilities of classes, (n, n_classes), steps taken, and whether they were enough."""

    shares: np.ndarray
    n_iter: int
    converged: bool


def spread(
    weights: sparse.csr_array, labels: np.ndarray, *, alpha: float, max_iter: int, tol: float
) -> Flow:
    """Rows of (1 - alpha) (I - alpha S)^-1 Y, scaled to sum 1, with S = D^-1/2 W D^-1/2.

    By iteration, not by a solver: all terms are positive, so that rows far from any label, whose
    sums are tiny, are as exact as the others.

    Parameters
    ----------
    weights : csr_array of shape (n, n)
        W, symmetric.
    labels : ndarray of shape (n, n_classes)
        Y, not negative.
    alpha : float
    max_iter : int
    tol : float
        Largest change of a row's sum in the last step, relative to it.
    """
    steps = alpha * _normalised(weights, weights.sum(axis=1))
    start = (1 - alpha) * labels
    shares = start
    n_iter, converged = 0, False
    while n_iter < max_iter and not converged:
        n_iter += 1
        before, shares = shares, steps @ shares + start
        sums = shares.sum(axis=1)
        converged = bool((sums - before.sum(axis=1) <= tol * sums).all() and (sums > 0).all())
    sums = shares.sum(axis=1, keepdims=True)
    unknown = np.full(labels.shape[1], 1 / labels.shape[1])
    return Flow(
        np.where(sums > 0, shares / np.where(sums > 0, sums, 1), unknown), n_iter, converged
    )


def propagate(
    weights: sparse.csr_array,
    labels: np.ndarray,
    labelled: np.ndarray,
    share: np.ndarray,
    votes: np.ndarray,
    *,
    max_iter: int,
    tol: float,
) -> Flow:
    """The harmonic solution F_u = (D_uu - W_uu)^-1 W_ul Y_l, by conjugate gradients.

    The vote is one more neighbour with a label of its own, whose edge has such a weight that its
    part of all is `share`: the matrix stays symmetric.

    Parameters
    ----------
    weights : csr_array of shape (n, n)
        W, symmetric.
    labels : ndarray of shape (n, n_classes)
        One-hot, and 0 where there is no label.
    labelled : ndarray of shape (n,), bool
    share : ndarray of shape (n,)
        In [0, 1).
    votes : ndarray of shape (n, n_classes)
    max_iter : int
    tol : float
        How far a row may be from the mean of its neighbours.
    """
    shares = labels.copy()
    free = np.flatnonzero(~labelled)
    if not len(free):
        return Flow(shares, 1, True)
    sums = weights.sum(axis=1)
    edge = share / (1 - share) * np.where(sums > 0, sums, 1.0)
    roots = np.sqrt(sums + edge)[free, None]
    links = _normalised(weights[free][:, free], roots[:, 0] ** 2)
    inflow = (weights[free] @ labels + edge[free, None] * votes[free]) / roots
    solution = np.zeros_like(inflow)
    residual = step = inflow
    norms = np.square(residual).sum(axis=0)
    n_iter, settled = 0, False
    while n_iter < max_iter and not settled:
        n_iter += 1
        image = step - links @ step
        bend = (step * image).sum(axis=0)
        rate = np.divide(norms, bend, out=np.zeros_like(norms), where=bend > 0)
        solution += rate * step
        residual = residual - rate * image
        settled = bool((np.abs(residual) <= tol * roots).all())
        before, norms = norms, np.square(residual).sum(axis=0)
        growth = np.divide(norms, before, out=np.zeros_like(norms), where=before > 0)
        step = residual + growth * step
    found = np.maximum(solution / roots, 0)
    totals = found.sum(axis=1, keepdims=True)
    # The exact totals are 1: what is missing was not reached yet, and may be any class.
    missing = np.maximum(1 - totals, 0)
    shares[free] = (found + missing / found.shape[1]) / (totals + missing)
    return Flow(shares, n_iter, settled and bool((np.abs(totals - 1) <= _LOST).all()))


def _normalised(weights: sparse.csr_array, sums: np.ndarray) -> sparse.csr_array:
    roots = sparse.diags_array(1 / np.sqrt(np.where(sums > 0, sums, 1.0)))
    return (roots @ weights @ roots).tocsr()
