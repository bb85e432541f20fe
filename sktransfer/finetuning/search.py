"""Results of a search over strategies: a table, and a scorer that counts trained parameters."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktransfer._composites import find_all


def count_trained_parameters(estimator: Any, X: Any = None, y: Any = None) -> int:
    """Number of parameters that were trained in the network and the head, as a scorer for searches.

    Parameters
    ----------
    estimator : fitted estimator
        A `FineTunedClassifier`, `FineTunedRegressor` or feature transformer, or a pipeline, union
        or search of such, whose counts are added.
    X, y : Any
        Ignored, present because scorers are called with them.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        Nothing in it can be fine-tuned.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTune, PretrainedCNNFeatures, count_trained_parameters
    >>> digits = load_digits()
    >>> features = PretrainedCNNFeatures(
    ...     layer="blocks.3", image_size=32, strategy=FineTune("head", epochs=1)
    ... )
    >>> count_trained_parameters(features.fit(digits.images[:50] / 16, digits.target[:50]))
    810

    `strategy_table` shows it as a column.
    """
    tuned = find_all(estimator, lambda each: hasattr(each, "n_trained_parameters_"))
    counts = [int(each.n_trained_parameters_) for each in tuned]
    if not counts:
        raise ValueError(
            "count_trained_parameters needs a fitted FineTunedClassifier, FineTunedRegressor or "
            f"feature transformer, or a pipeline with one, got {estimator!r}"
        )
    return sum(counts)


def strategy_table(search: Any) -> str:
    """Results of a search as a table of text, the best first.

    Parameters
    ----------
    search : GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV or the like, fitted
        If `count_trained_parameters` is one of its scorers, the table has a column for it.

    Returns
    -------
    str
        Mean and standard deviation of each score over folds, mean seconds of fitting and of
        scoring, and the parameters that were set. The last round of a halving search comes first.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sktransfer import (
    ...     FineTune, FineTunedClassifier, PretrainedCNNFeatures, count_trained_parameters,
    ...     strategy_table,
    ... )
    >>> digits = load_digits()
    >>> classifier = FineTunedClassifier(
    ...     PretrainedCNNFeatures(layer="blocks.3", image_size=32), random_state=0
    ... )
    >>> search = GridSearchCV(
    ...     classifier,
    ...     {"strategy": ["frozen", FineTune("head", epochs=2), FineTune(1, epochs=2)]},
    ...     scoring={"accuracy": "accuracy", "trained": count_trained_parameters},
    ...     refit="accuracy",
    ...     cv=2,
    ... ).fit(digits.images[:100] / 16, digits.target[:100])
    >>> print(strategy_table(search))
            accuracy  trained  fit s  score s  parameters
    0... +- 0...          ...    ...      ...  strategy=...
    >>> search.cv_results_["mean_test_trained"].astype(int).tolist()
    [810, 810, 199290]
    """
    check_is_fitted(search, "cv_results_")
    found = search.cv_results_
    names = [name.removeprefix("mean_test_") for name in found if name.startswith("mean_test_")]
    columns = {name: _scores(found, name) for name in names}
    columns["fit s"] = [f"{seconds:.2f}" for seconds in found["mean_fit_time"]]
    columns["score s"] = [f"{seconds:.2f}" for seconds in found["mean_score_time"]]
    if "n_resources" in found:
        columns[getattr(search, "resource", "resources")] = list(map(str, found["n_resources"]))
    head = [name.rjust(_width(name, cells)) for name, cells in columns.items()]
    settings = [
        ", ".join(f"{name}={' '.join(repr(value).split())}" for name, value in parameters.items())
        for parameters in found["params"]
    ]
    lines = ["  ".join([*head, "parameters"])]
    for row in best_first(search):
        cells = [cells[row].rjust(_width(name, cells)) for name, cells in columns.items()]
        lines.append("  ".join([*cells, settings[row]]))
    return "\n".join(lines)


def _scores(found: Any, name: str) -> list[str]:
    mean, std = found[f"mean_test_{name}"], found[f"std_test_{name}"]
    folds = [
        found[key] for key in found if key.startswith("split") and key.endswith(f"_test_{name}")
    ]
    if all(float(value).is_integer() for value in np.ravel(folds)) and np.max(np.abs(mean)) > 1:
        return [f"{value:,.0f}" for value in mean]  # counts, which need no decimals
    return [f"{value:.4f} +- {spread:.4f}" for value, spread in zip(mean, std, strict=True)]


def best_first(search: Any) -> np.ndarray:
    """Candidates of a fitted search by rank; those of the last round of a halving search first."""
    found = search.cv_results_
    by = search.refit if isinstance(search.refit, str) else None
    ranks = [key for key in found if key.startswith("rank_test_")]
    rank = found[f"rank_test_{by}"] if by is not None else found[ranks[0]]
    # The last key of lexsort is its first criterion: later rounds of a halving search first.
    rounds = found.get("iter", np.zeros(len(rank)))
    return np.lexsort((rank, -np.asarray(rounds)))


def _width(name: str, cells: list[str]) -> int:
    return max(len(name), *map(len, cells))
