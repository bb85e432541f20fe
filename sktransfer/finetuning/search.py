"""What a search over strategies found, as a table."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted


def count_trained_parameters(estimator: Any, X: Any = None, y: Any = None) -> int:
    """How many numbers an estimator has trained in its network and head: a scorer for searches.

    Parameters
    ----------
    estimator : fitted estimator
        A `FineTunedClassifier`, `FineTunedRegressor` or feature transformer, or a pipeline, union
        or search of such; of several the sum.
    X, y : Any
        Not used; scorers are called with them.

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
    counts = [*_counts(estimator)]
    if not counts:
        raise ValueError(
            "count_trained_parameters needs a fitted FineTunedClassifier, FineTunedRegressor or "
            f"feature transformer, or a pipeline of such, got {estimator!r}"
        )
    return sum(counts)


def _counts(estimator: Any) -> Iterator[int]:
    """Of an estimator, or of the parts of one that is made of several."""
    if hasattr(estimator, "n_trained_parameters_"):
        yield int(estimator.n_trained_parameters_)
        return
    # Searches; pipelines; unions and the transformers of columns as they were fitted.
    best = getattr(estimator, "best_estimator_", None)
    several = [best] if best is not None else []
    for name in ("steps", "transformers_", "transformer_list"):
        several += [part[1] for part in getattr(estimator, name, ())]
    for part in several:
        yield from _counts(part)


def strategy_table(search: Any) -> str:
    """What a search found, the best first, as lines of text.

    Parameters
    ----------
    search : GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV or the like, fitted
        With `count_trained_parameters` as one of several scorers there is a column of it.

    Returns
    -------
    str
        Mean score over folds (each, if there are several) and its standard deviation, mean
        seconds of fitting and of scoring, and the parameters that were set. The last round of
        a halving search comes first.

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
    settings = [_described(parameters) for parameters in found["params"]]
    lines = ["  ".join([*head, "parameters"])]
    for row in _best_first(search):
        cells = [cells[row].rjust(_width(name, cells)) for name, cells in columns.items()]
        lines.append("  ".join([*cells, settings[row]]))
    return "\n".join(lines)


def _scores(found: Any, name: str) -> list[str]:
    mean, std = found[f"mean_test_{name}"], found[f"std_test_{name}"]
    folds = [
        found[key] for key in found if key.startswith("split") and key.endswith(f"_test_{name}")
    ]
    if all(float(value).is_integer() for value in np.ravel(folds)) and np.max(np.abs(mean)) > 1:
        return [f"{value:,.0f}" for value in mean]  # counts, the same in each fold or nearly so
    return [f"{value:.4f} +- {spread:.4f}" for value, spread in zip(mean, std, strict=True)]


def _best_first(search: Any) -> np.ndarray:
    found = search.cv_results_
    by = search.refit if isinstance(search.refit, str) else None
    ranks = [key for key in found if key.startswith("rank_test_")]
    rank = found[f"rank_test_{by}"] if by is not None else found[ranks[0]]
    rounds = found.get("iter", np.zeros(len(rank)))
    return np.lexsort((rank, -np.asarray(rounds)))


def _described(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={' '.join(repr(v).split())}" for name, v in parameters.items())


def _width(name: str, cells: list[str]) -> int:
    return max(len(name), *map(len, cells))
