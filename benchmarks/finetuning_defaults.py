"""Settings of `FineTune` on all sets: what its defaults were chosen by.

    python finetuning_defaults.py --photos folder                 every setting of SETTINGS
    python finetuning_defaults.py --settings default frozen       only these
    python finetuning_defaults.py --sets "fashion 200" "mnist 200" --seeds 0

Each evaluation is written as it is made, and a second start goes on with those that are missing.
The network is EfficientNet-Lite0, read at its penultimate layer, or at the layer that a setting
names. Of a regression there are R2 and the mean absolute error in degrees.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, parser, write_result
from _finetuning_data import Data, Set, sets_of
from _finetuning_scores import classification_scores, regression_scores

PHOTOS = Path(os.environ["PHOTOS20"]) if "PHOTOS20" in os.environ else None
ALL_SETS: dict[str, Set] = sets_of(PHOTOS)
SETS: dict[str, Callable[[int], Data]] = {name: one.load for name, one in ALL_SETS.items()}
"""Loaders by name; photographs only if the environment variable PHOTOS20 names their folder."""

# By name: parameters of FineTune, besides "layer" of the features and strategy="frozen".
SETTINGS: dict[str, dict[str, Any]] = {
    "frozen": {"strategy": "frozen"},
    "default": {},
    "head": {"unfreeze": "head"},
    "all": {"unfreeze": "all"},
    "no guard": {"guard": False},
    "no guard, smoothing .1": {"guard": False, "label_smoothing": 0.1},
    "all, no guard": {"unfreeze": "all", "guard": False},
    "blocks.4, frozen": {"layer": "blocks.4", "strategy": "frozen"},
    "blocks.4": {"layer": "blocks.4"},
    "smoothing .1": {"label_smoothing": 0.1},
    "all, smoothing .1": {"unfreeze": "all", "label_smoothing": 0.1},
    "rate 3e-4": {"learning_rate": 3e-4},
    "rate 3e-4, smoothing .1": {"learning_rate": 3e-4, "label_smoothing": 0.1},
    "all, rate 3e-4, smoothing .1": {
        "unfreeze": "all", "learning_rate": 3e-4, "label_smoothing": 0.1
    },
}  # fmt: skip


def evaluate(setting: dict[str, Any], set_name: str, seed: int) -> dict[str, float]:
    """Fit a setting to a set, and score it on the set's test rows.

    Parameters
    ----------
    setting : dict
        Parameters of `FineTune`; "layer" and other names of `PretrainedCNNFeatures` go there, and
        {"strategy": "frozen"} tunes nothing.
    set_name : str
        A name in `SETS`.
    seed : int
        Of the training rows and the training.

    Returns
    -------
    dict
        "accuracy", "log_loss", "ece", "balanced_accuracy", or "r2" and "mae"; "seconds" of fit.
    """
    from sktransfer import FineTune, FineTunedClassifier, FineTunedRegressor, PretrainedCNNFeatures

    one = ALL_SETS[set_name]
    data = one.load(seed)
    names = PretrainedCNNFeatures().get_params(deep=False)
    own = {name: value for name, value in setting.items() if name in names and name != "strategy"}
    tuning = {name: value for name, value in setting.items() if name not in names}
    features = PretrainedCNNFeatures(**{"image_size": one.side, "resize": "squash", **own})
    strategy = setting.get("strategy") or FineTune(**tuning)
    kind = FineTunedRegressor if one.numbers else FineTunedClassifier
    model = kind(features, strategy=strategy, random_state=seed)
    started = time.perf_counter()
    model.fit(data.train, data.y_train)
    seconds = time.perf_counter() - started
    if one.numbers:
        scores = regression_scores(data.y_test, model.predict(data.test))
    else:
        counts = np.bincount(data.y_train)
        scores = classification_scores(data.y_test, model.predict_proba(data.test), counts)
    return {**scores, "seconds": seconds}


def summary(runs: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Of each setting the mean over the sets and the worst set; only sets that all settings have.

    Parameters
    ----------
    runs : dict
        {setting: {set: {seed: scores}}}
    """
    scored = {
        setting: {name: seeds for name, seeds in of_sets.items() if seeds}
        for setting, of_sets in runs.items()
    }
    scored = {setting: of_sets for setting, of_sets in scored.items() if of_sets}
    shared = set.intersection(*map(set, scored.values())) if scored else set()
    found: dict[str, dict[str, Any]] = {}
    for setting, of_sets in scored.items():
        means: dict[str, dict[str, float]] = {}
        for name in sorted(shared):
            for score in next(iter(of_sets[name].values())):
                values = [one[score] for one in of_sets[name].values()]
                if isinstance(values[0], float):
                    means.setdefault(score, {})[name] = float(np.mean(values))
        found[setting] = {
            score: {
                "mean": float(np.mean(list(values.values()))),
                "worst": (max if score in ("log_loss", "ece", "mae", "seconds") else min)(
                    values.values()
                ),
                "sets": values,
            }
            for score, values in means.items()
        }
    return found


def options_of_command_line() -> argparse.Namespace:
    made = parser(__doc__, rounds=3)
    made.add_argument("--photos", type=Path, default=PHOTOS, help="a folder of pictures a class")
    made.add_argument("--settings", nargs="+", help="names in SETTINGS; all by default")
    made.add_argument("--sets", nargs="+", help="names of sets; all at up to 96 px by default")
    made.add_argument("--seeds", type=int, nargs="+", help="0 to rounds - 1 by default")
    made.add_argument("--budget", type=float, help="minutes, after which nothing is begun")
    made.add_argument("--output", type=Path, default=RESULTS / "finetuning_defaults.json")
    return made.parse_args()


def main() -> None:
    import torch
    from threadpoolctl import threadpool_limits

    options = options_of_command_line()
    torch.set_num_threads(options.threads)
    ALL_SETS.update(sets_of(options.photos))
    if options.photos is None:
        print("no photographs: --photos names their folder")
    wanted = options.sets or [name for name, one in ALL_SETS.items() if one.side <= 96]
    seeds = options.seeds or range(options.rounds)
    names = options.settings or list(SETTINGS)
    if options.quick:
        wanted, seeds, names = options.sets or ["fashion 200"], [0], options.settings or ["frozen"]
    runs: dict[str, Any] = {}
    if options.output.exists() and not options.quick:
        runs = json.loads(options.output.read_text())["runs"]
    wanted_runs = [(seed, name, one) for seed in seeds for name in wanted for one in names]
    started = time.monotonic()
    with threadpool_limits(options.threads):
        for seed, name, setting in wanted_runs:
            done = runs.setdefault(setting, {}).setdefault(name, {})
            if str(seed) in done:
                continue
            if options.budget and time.monotonic() - started > 60 * options.budget:
                print("out of time: start again to go on")
                return
            try:
                done[str(seed)] = one = evaluate(SETTINGS[setting], name, seed)
            except Exception as problem:  # the other settings are worth having
                print(f"{name:<26} {seed} {setting:<28} failed: {problem!r}", flush=True)
                continue
            cells = " ".join(f"{k} {v:.4f}" for k, v in one.items() if isinstance(v, float))
            print(f"{name:<26} {seed} {setting:<28} {cells}", flush=True)
            if not options.quick:
                result = {"runs": runs, "summary": summary(runs), "settings": SETTINGS}
                result |= {"threads": options.threads, "rounds": len(seeds)}
                path = str(options.output.resolve().with_suffix(""))
                write_result(path, result, announced=False)


if __name__ == "__main__":
    main()
