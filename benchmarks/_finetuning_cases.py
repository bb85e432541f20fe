"""The cases of each command of finetuning.py: contestants by name, as values that JSON can hold."""

import argparse
import inspect
from math import ceil
from typing import Any

from _finetuning_data import Set, sets_of

# Resized as a whole, as the peers have it: "crop" would cut away the images' rim.
FEATURES: dict[str, Any] = {"resize": "squash"}
BATCH_SIZE = 64
EPOCHS = ((1_000, 20), (10_000, 10))  # below so many labels; else the last ones
EPOCHS_OF_MANY = 2
LEARNING_RATE = 1e-3
QUICK_ROWS = 60  # for training and for testing, where --quick only tries the script out
HEAD_LEARNING_RATE = 1e-2  # peers' heads begin at random, and alone get nowhere with less

UNFREEZE = ("head", 1, "all")
# Of a shallower layer and larger images: what we would choose for such small pictures.
SHALLOWER: dict[str, Any] = {"image_size": 48, "layer": "blocks.4"}
LAYERS = ("blocks.4", "penultimate")
STRATEGIES: dict[str, Any] = {
    "frozen": "frozen",
    "head": {"unfreeze": "head"},
    "last stage": {"unfreeze": 1},
    "3 last stages": {"unfreeze": 3},
    "all": {"unfreeze": "all"},
    "all, l2-sp": {"unfreeze": "all", "penalty": "l2-sp"},
}
REMEDIES: dict[str, dict[str, Any]] = {
    "no remedy": {},
    "class_weight": {"class_weight": "balanced"},
    "sampler": {"sampler": "balanced"},
    "logit-adjusted": {"loss": "logit-adjusted"},
    "focal": {"loss": "focal"},
}
AVERAGED: dict[str, dict[str, Any]] = {
    "lora": {"unfreeze": "all", "tune": "lora"},
    "last stage, ema": {"unfreeze": 1, "average": "ema"},
    "last stage, half-way": {"unfreeze": 1, "interpolate": 0.5},
    "all, half-way": {"unfreeze": "all", "interpolate": 0.5},
}

Cases = dict[str, dict[str, Any]]


def tuning(**strategy: Any) -> dict[str, Any] | None:
    """A strategy as a case holds it, with its defaults; None if FineTune lacks a parameter.

    With its defaults a case is another one once they change, and is measured again.
    """
    from sktransfer import FineTune

    known = inspect.signature(FineTune).parameters
    if set(strategy) - set(known):
        return None
    defaults = {
        name: repr(one.default)
        for name, one in known.items()
        if one.default is not inspect.Parameter.empty and name not in strategy
    }
    return {"strategy": strategy, "defaults": defaults}


def add_ours(cases: Cases, name: str, same: dict[str, Any], **strategy: Any) -> None:
    """Add our case of a strategy, unless FineTune lacks one of its parameters."""
    if (described := tuning(**strategy)) is not None:
        cases[name] = {**same, "contestant": "ours", **described}


def frozen(same: dict[str, Any]) -> dict[str, Any]:
    return {**same, "contestant": "ours", "strategy": "frozen"}


def same_steps(labels: int, epochs: int | None) -> int:
    """As many epochs of batches of 64 as our defaults make."""
    from sktransfer import FineTune

    ours = FineTune()
    if epochs or ours.epochs:
        return epochs or ours.epochs
    return max(10, ceil(ours.min_steps / ceil(labels / BATCH_SIZE)))


# Every set, with what one would use


def compared(same: dict[str, Any], labels: int) -> Cases:
    """Ours by default and by what is trained, and the peers."""
    own = {} if same["epochs"] is None else {"epochs": same["epochs"]}
    loop = {**same, "epochs": same_steps(labels, same["epochs"])}
    cases = {"ours, frozen": frozen(same)}
    add_ours(cases, "ours, default", same, **own)
    for unfreeze in ("head", "all"):
        add_ours(cases, f"ours, {unfreeze}", same, unfreeze=unfreeze, **own)
    for unfreeze in (1, "all"):
        cases[f"loop, {unfreeze}"] = {**loop, "contestant": "loop", "unfreeze": unfreeze}
    cases["tuned loop"] = {**same, "contestant": "tuned loop"}
    cases["skorch, 1"] = {**loop, "contestant": "skorch", "unfreeze": 1}
    cases["fastai"] = {**same, "contestant": "fastai"}
    return cases


def photographed(same: dict[str, Any]) -> Cases:
    """Ours by what is trained, and with averages of weights where FineTune has them."""
    own = {} if same["epochs"] is None else {"epochs": same["epochs"]}
    cases = {"frozen": frozen(same)}
    for name, unfreeze in (("head", "head"), ("last stage", 1), ("all", "all")):
        add_ours(cases, name, same, unfreeze=unfreeze, **own)
    for name, strategy in AVERAGED.items():
        add_ours(cases, name, same, **strategy, **own)
    return cases


def cases_on_sets(options: argparse.Namespace, seed: int) -> dict[str, Cases]:
    """Contestants of each set for one round: {set: {contestant: case}}."""
    found: dict[str, Cases] = {}
    for name, one in wanted_sets(options).items():
        same = {
            "photos": None if options.photos is None else str(options.photos),
            "set": name,
            "seed": seed,
            "threads": options.threads,
            "epochs": options.epochs,
            "most": QUICK_ROWS if options.quick else None,
            "weights": "default",
        }
        if options.command == "photos":
            found[name] = photographed(same)
        else:
            found[name] = compared(same, len(one.load(seed).y_train))
    return found


def wanted_sets(options: argparse.Namespace) -> dict[str, Set]:
    """The sets of a command, or those that were asked for."""
    sets = sets_of(options.photos)
    if options.sets:
        if unknown := set(options.sets) - set(sets):
            raise SystemExit(f"there are no sets {sorted(unknown)}, only {list(sets)}")
        return {name: sets[name] for name in options.sets}
    if options.command == "photos":
        return {name: one for name, one in sets.items() if name.startswith("photos")}
    return {name: one for name, one in sets.items() if one.side <= 96}


# Fashion-MNIST, with equal settings


def like_peers(unfreeze: str | int, case: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Parameters with which FineTune runs as many epochs on as many images as the peers.

    Its head begins as a linear model, and needs no higher rate when it is alone.
    """
    same = {name: case[name] for name in ("epochs", "batch_size")}
    same["learning_rate"] = case["learning_rate"] or LEARNING_RATE
    # From scratch batch norm has no statistics to keep, and a head nothing to begin from.
    fresh = case["weights"] == "random"
    scratch = {"batch_norm": "update", "head_init": "random"} if fresh else {}
    # The guard trains several times, which the peers do not.
    once = {"early_stopping": False, "guard": False}
    return {"unfreeze": unfreeze, **same, **once, **scratch, **more}


def paced(same: dict[str, Any]) -> Cases:
    """Contestants of equal settings, for seconds and memory."""
    cases: Cases = {}
    for unfreeze in UNFREEZE:
        for who in ("loop", "skorch"):
            cases[f"{who}, {unfreeze}"] = {**same, "contestant": who, "unfreeze": unfreeze}
        add_ours(cases, f"ours, {unfreeze}", same, **like_peers(unfreeze, same))
    return cases


def remedied(same: dict[str, Any], unfreeze: str | int) -> Cases:
    """Ours with each remedy for imbalance, and the peers with their own."""
    cases: Cases = {}
    for remedy, more in REMEDIES.items():
        add_ours(cases, f"ours, {remedy}", same, **like_peers(unfreeze, same, **more))
    prior = {"class_prior": "balanced"}
    cases["ours, prior correction"] = {**cases["ours, no remedy"], **prior}
    cases["ours frozen, no remedy"] = frozen(same)
    cases["ours frozen, prior correction"] = {**frozen(same), **prior}
    cases["loop, no remedy"] = {**same, "contestant": "loop", "unfreeze": unfreeze}
    for remedy in ("no remedy", "class_weight"):
        cases[f"frozen, {remedy}"] = {**same, "contestant": "frozen", **REMEDIES[remedy]}
    return cases


def all_images(same: dict[str, Any]) -> Cases:
    """Ours on everything."""
    cases = {"ours, frozen": frozen(same)}
    for unfreeze in UNFREEZE:
        add_ours(cases, f"ours, {unfreeze}", same, **like_peers(unfreeze, same))
    cases["ours, shallower"] = {**cases["ours, all"], "features": SHALLOWER}
    return cases


def searched(same: dict[str, Any], folds: int) -> Cases:
    """The search and its baselines."""
    scratch = {**same, "weights": "random"}
    cases = {"search": {**same, "contestant": "search", "folds": folds}}
    cases["ours, frozen"] = frozen(same)
    add_ours(cases, "ours, scratch", scratch, **like_peers("all", scratch))
    return cases


def grown(same: dict[str, Any], options: argparse.Namespace) -> Cases:
    """So many fits in one process."""
    own = {"epochs": options.epochs} if options.epochs else {}
    cases: Cases = {}
    add_ours(cases, "ours, default", {**same, "fits": options.fits}, **own)
    return {name: {**case, "contestant": "growth"} for name, case in cases.items()}


def epochs_for(labels: int) -> int:
    """Fewer for more labels."""
    return next((epochs for below, epochs in EPOCHS if labels < below), EPOCHS_OF_MANY)


def cases_on_labels(options: argparse.Namespace, seed: int) -> dict[str, Cases]:
    """Contestants of each number of labels for one round: {labels: {contestant: case}}."""
    found: dict[str, Cases] = {}
    for labels in options.sizes:
        same = {
            "data": str(options.data),
            "test": options.test,
            "size": labels,
            "seed": seed,
            "threads": options.threads,
            "epochs": options.epochs or epochs_for(labels),
            "learning_rate": options.learning_rate,
            "batch_size": BATCH_SIZE,
            "weights": "default",
        }
        if options.command == "imbalance":
            same |= {"majority": options.majority, "minority": options.minority}
            cases = remedied(same, options.unfreeze)
        elif options.command == "full":
            cases = all_images(same)
        elif options.command == "speed":
            cases = paced(same)
        elif options.command == "growth":
            cases = grown(same, options)
        else:
            cases = searched(same, options.folds)
        found[str(labels)] = cases
    return found
