"""A single case of finetuning.py, in a process of its own: fit, predict, and the highest memory."""

import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import timed_watching
from _finetuning_cases import (
    FEATURES,
    HEAD_LEARNING_RATE,
    LAYERS,
    LEARNING_RATE,
    STRATEGIES,
)
from _finetuning_data import Data, clothes, fewer, rare_clothes, sets_of
from _finetuning_peers import (
    Settings,
    Task,
    by_fastai,
    by_skorch,
    frozen_features,
    hand_written,
    loaded,
)
from _finetuning_scores import classification_scores, regression_scores
from _finetuning_tuned_loop import searched, settings_for, tuned_loop
from sklearn.model_selection import GridSearchCV

Fit = Callable[[np.ndarray, np.ndarray], Any]


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Everything that is to be known of a case."""
    data, task = loading(case)
    prepare(case, task)
    before, found = peak_bytes(), {}
    if case["contestant"] == "growth":
        return growth(case, data, task)
    if case["contestant"] == "tuned loop":
        choice = searched(data.train, data.y_train, task, case["seed"], case["epochs"])
        found = {"search_seconds": choice.seconds, "rate": choice.learning_rate}
        found["rates"] = choice.scores
        case = {**case, "rate": choice.learning_rate}
    fit = fitting(case, task)
    fit_seconds, model, others = timed_watching(lambda: fit(data.train, data.y_train))
    of_fit = peak_bytes()
    predict = model.predict if task.numbers else model.predict_proba
    predict_seconds, predicted, others_again = timed_watching(lambda: predict(data.test))
    if task.numbers:
        found |= regression_scores(data.y_test, predicted)
    else:
        counts = np.bincount(data.y_train, minlength=task.n_outputs)
        found |= classification_scores(data.y_test, predicted, counts)
    found |= {
        "labels": len(data.y_train),
        "fit_seconds": fit_seconds,
        "predict_seconds": predict_seconds,
        "peak_bytes": peak_bytes(),
        "fit_peak_bytes": of_fit,
        "loaded_bytes": before,
        "others": max(others, others_again),
    }
    if case["contestant"] == "search":
        found |= of_search(model)
    elif hasattr(model, "history_"):
        found["epochs"] = len(model.history_)
    return found


def loading(case: dict[str, Any]) -> tuple[Data, Task]:
    """The rows of a case, and what is to be learned from them."""
    if "set" in case:
        one = sets_of(None if case["photos"] is None else Path(case["photos"]))[case["set"]]
        data = fewer(one.load(case["seed"]), case["most"])
        outputs = 1 if one.numbers else int(data.y_train.max()) + 1
        return data, Task(outputs, one.side, one.numbers)
    folder, test = Path(case["data"]), case["test"]
    if "majority" in case:
        data = rare_clothes(case["majority"], case["minority"], case["seed"], test, folder)
    else:
        data = clothes(case["size"], case["seed"], test, folder)
    return data, Task(10, 32)


def prepare(case: dict[str, Any], task: Task) -> None:
    """Imports, and the published weights, which estimators of a process share: no part of fits."""
    who = case["contestant"]
    if who in ("ours", "search", "growth"):
        estimator("frozen", case, task).features.fit_transform(np.zeros((2, 28, 28), np.uint8))
        return
    for seed in {0, case["seed"]}:
        loaded(case["weights"], seed)
    if who == "skorch":
        import skorch.callbacks  # noqa: F401
    if who == "fastai":
        import fastai.vision.all  # noqa: F401


def fitting(case: dict[str, Any], task: Task) -> Fit:
    """The function that fits the contestant of a case."""
    who, seed = case["contestant"], case["seed"]
    if who == "ours":
        return estimator(case["strategy"], case, task).fit
    if who == "search":
        return searching(case, task)
    if who == "frozen":
        return partial(frozen_features, task=task, class_weight=case.get("class_weight"))
    if who == "tuned loop":
        rest = {"learning_rate": case["rate"], "epochs": case["epochs"]}
        return partial(tuned_loop, task=task, seed=seed, **rest)
    if who == "fastai":

        def by_fine_tune(X: np.ndarray, y: np.ndarray) -> Any:
            # As many epochs and as large batches as the tuned loop's; the rate is fastai's.
            settings = settings_for(len(y), seed, 2e-3, case["epochs"])
            return by_fastai(X, y, task, settings)

        return by_fine_tune
    rate = case.get("learning_rate") or (
        HEAD_LEARNING_RATE if case["unfreeze"] == "head" else LEARNING_RATE
    )
    settings = Settings(case["epochs"], case.get("batch_size", 64), rate, seed)
    if who == "skorch":
        return partial(by_skorch, unfreeze=case["unfreeze"], task=task, settings=settings)
    how = {"unfreeze": case["unfreeze"], "weights": case["weights"]}
    return partial(hand_written, task=task, settings=settings, **how)


def estimator(strategy: Any, case: dict[str, Any], task: Task) -> Any:
    """Ours with a strategy, as a case describes it."""
    from sktransfer import FineTunedClassifier, FineTunedRegressor, PretrainedCNNFeatures

    own = {"image_size": task.side, **FEATURES, **case.get("features", {})}
    seed = case["seed"]
    features = PretrainedCNNFeatures(weights=case["weights"], random_state=seed, **own)
    kind = FineTunedRegressor if task.numbers else FineTunedClassifier
    return kind(features, strategy=made(strategy, seed), random_state=seed)


def made(strategy: Any, seed: int) -> Any:
    """A strategy from its description."""
    from sktransfer import FineTune

    return FineTune(**strategy, random_state=seed) if isinstance(strategy, dict) else strategy


def searching(case: dict[str, Any], task: Task) -> Fit:
    """A grid search over layers and strategies."""
    several = [
        made({**one, "epochs": case["epochs"]} if isinstance(one, dict) else one, case["seed"])
        for one in STRATEGIES.values()
    ]
    grid = {"features__layer": LAYERS, "strategy": several}
    return GridSearchCV(estimator("frozen", case, task), grid, cv=case["folds"]).fit


def of_search(search: GridSearchCV) -> dict[str, Any]:
    """What a search has chosen, and from what."""
    results = search.cv_results_
    names = [f"{layer}, {strategy}" for layer in LAYERS for strategy in STRATEGIES]
    scores = map(float, results["mean_test_score"])
    return {
        "chosen": names[search.best_index_],
        "cv_accuracy": dict(zip(names, scores, strict=True)),
        "cv_fit_seconds": dict(zip(names, results["mean_fit_time"], strict=True)),
        "refit_seconds": search.refit_time_,
    }


def growth(case: dict[str, Any], data: Data, task: Task) -> dict[str, Any]:
    """Memory of this process after each of several fits."""
    resident = []

    def fit_all() -> None:
        for _ in range(case["fits"]):
            model = estimator(case["strategy"], case, task)
            model.fit(data.train, data.y_train).predict_proba(data.test[:100])
            resident.append(resident_bytes())

    seconds, _, others = timed_watching(fit_all)
    return {
        "resident_bytes": resident,
        "fit_seconds": seconds / case["fits"],
        "predict_seconds": 0.0,
        "peak_bytes": peak_bytes(),
        "others": others,
    }


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    """Memory of this process now, as Linux tells it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
