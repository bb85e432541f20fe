"""Solvers for label propagation and label spreading on a weighted graph.

Both return probabilities (n, n_classes), the steps taken and whether they converged, for symmetric
weights W (n, n) and labels Y (n, n_classes), none negative.
"""

import numpy as np
from scipy import sparse

_MOST_MISSING = 0.01
"""Most of a row's total probability that may be missing when the solver counts as converged."""


def spread(
    weights: sparse.csr_array, labels: np.ndarray, *, alpha: float, max_iter: int, tol: float
) -> tuple[np.ndarray, int, bool]:
    """Rows of (1 - alpha) (I - alpha S)^-1 Y, scaled to sum 1, with S = D^-1/2 W D^-1/2.

    The fixed-point iteration adds positive terms only. Rows far from any label, whose sums are
    tiny, are therefore as exact as the others, which a linear solver would not ensure. `tol` is the
    largest change of a row's sum in the last step, relative to that sum.
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
    probabilities = np.where(sums > 0, shares / np.where(sums > 0, sums, 1), unknown)
    return probabilities, n_iter, converged


def propagate(
    weights: sparse.csr_array,
    labels: np.ndarray,
    labelled: np.ndarray,
    share: np.ndarray,
    votes: np.ndarray,
    *,
    max_iter: int,
    tol: float,
) -> tuple[np.ndarray, int, bool]:
    """The harmonic solution F_u = (D_uu - W_uu)^-1 W_ul Y_l, by conjugate gradients.

    The vote acts as one more labelled neighbour of each row. Its edge weighs `share` of all edges
    of the row, so that the matrix stays symmetric, as conjugate gradients need it. `labels` are
    one-hot, and 0 where there is no label; `tol` is the largest distance of a row from the mean of
    its neighbours.
    """
    shares = labels.copy()
    free = np.flatnonzero(~labelled)
    if not len(free):
        return shares, 1, True
    sums = weights.sum(axis=1)
    # The weight of the vote's edge, from share = edge / (sums + edge).
    edge = share / (1 - share) * np.where(sums > 0, sums, 1.0)
    roots = np.sqrt(sums + edge)[free, None]
    # Scaled to a unit diagonal, which preconditions the system (Jacobi).
    links = _normalised(weights[free][:, free], roots[:, 0] ** 2)
    inflow = (weights[free] @ labels + edge[free, None] * votes[free]) / roots
    solution = np.zeros_like(inflow)
    residual = step = inflow
    norms = np.square(residual).sum(axis=0)
    n_iter, converged = 0, False
    while n_iter < max_iter and not converged:
        n_iter += 1
        image = step - links @ step
        # All classes are solved at once; a class that is solved exactly has curvature 0.
        curvature = (step * image).sum(axis=0)
        rate = np.divide(norms, curvature, out=np.zeros_like(norms), where=curvature > 0)
        solution += rate * step
        residual = residual - rate * image
        converged = bool((np.abs(residual) <= tol * roots).all())
        before, norms = norms, np.square(residual).sum(axis=0)
        growth = np.divide(norms, before, out=np.zeros_like(norms), where=before > 0)
        step = residual + growth * step
    found = np.maximum(solution / roots, 0)
    totals = found.sum(axis=1, keepdims=True)
    # The exact totals are 1. Probability that the iteration has not brought yet may be of any
    # class, and is divided equally.
    missing = np.maximum(1 - totals, 0)
    shares[free] = (found + missing / found.shape[1]) / (totals + missing)
    converged = converged and bool((np.abs(totals - 1) <= _MOST_MISSING).all())
    return shares, n_iter, converged


def _normalised(weights: sparse.csr_array, sums: np.ndarray) -> sparse.csr_array:
    roots = sparse.diags_array(1 / np.sqrt(np.where(sums > 0, sums, 1.0)))
    return (roots @ weights @ roots).tocsr()
