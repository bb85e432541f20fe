"""The choice of the layer that suits a task, ``layer="auto"``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from sktransfer._validation import training_weights
from sktransfer.finetuning.targets import encode_targets
from sktransfer.metrics.transferability import logme_by_output


def is_auto(layer: Any) -> bool:
    """Whether a layer is to be chosen."""
    return isinstance(layer, str) and layer == "auto"


def choose_layer(
    features: np.ndarray,
    columns: Mapping[str, slice | np.ndarray],
    y: Any,
    *,
    task: str | None = None,
    sample_weight: Any = None,
    sample_domain: Any = None,
) -> tuple[str, dict[str, float]]:
    """The best layer, or the one before it if that is as good, and the score of each.

    Layers are scored by LogME of their standardised features. The one before the best is as good
    if its score is lower by less than the standard error, over the outputs, of the difference:
    evidence prefers wide layers somewhat, and deep ones are wide. With few labels standard errors
    are large, so that to go back further would often be too far.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Features of all layers; rows of NaN are left out.
    columns : dict of str to slice or ndarray of int
        Columns of each layer, shallow to deep.
    y, sample_weight, sample_domain : Any
        As for the `fit` of a transformer. A row of weight 2 counts as two.
    task : {"classification", "regression"} or None, default=None
        None goes by y.

    Raises
    ------
    ValueError
        y is missing or unsound, or all alike.
    """
    if y is None:
        raise ValueError(
            "layer='auto' requires y to be passed, but the target y is None: it chooses by labels; "
            "pass y to fit, or name a layer"
        )
    targets = encode_targets(
        y,
        n_rows=len(features),
        task=task,
        sample_weight=sample_weight,
        sample_domain=sample_domain,
    )
    rows = np.flatnonzero((targets.weights > 0) & np.isfinite(features).all(axis=1))
    if not len(rows):
        raise ValueError("layer='auto' finds no row that could be read and has a label")
    values = targets.values[rows].astype(np.float64)
    values = values[:, values.any(axis=0)]  # a class without rows says nothing
    if not np.ptp(values, axis=0).any():
        raise ValueError("layer='auto' finds nothing to choose by: y is the same in all rows")
    weights = training_weights(sample_weight, len(features))[rows]
    scores = np.array(
        [
            logme_by_output(
                StandardScaler().fit_transform(table, sample_weight=weights), values, weights
            )
            for table in (features[rows][:, of].astype(np.float64) for of in columns.values())
        ]
    )
    best = int(scores.mean(axis=1).argmax())
    if best and values.shape[1] > 1:
        behind = scores[best] - scores[best - 1]
        if behind.mean() <= behind.std(ddof=1) / np.sqrt(len(behind)):
            best -= 1
    names = list(columns)
    return names[best], {
        name: float(score.mean()) for name, score in zip(names, scores, strict=True)
    }
