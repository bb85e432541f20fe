"""Options, paired timing, and results with the description of the machine, for all benchmarks."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import joblib

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("numpy", "scikit-learn", "torch", "torchvision", "timm", "pillow", "openvino"),
    *("embetter", "img2vec_pytorch", "aeon", "numba", "transformers", "sentence-transformers"),
)

Seconds = dict[str, list[float]]


def parser(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Add the options of all measurements of speed."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--quick", action="store_true", help="tiny; tests the script, writes nothing")
    return made


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Duration of a call in seconds, and its result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def cpu_of_others() -> float:
    """CPU seconds used so far by other processes and other guests of the host."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:  # not Linux: nobody is seen
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields)
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return busy - own.user - own.system - own.children_user - own.children_system


def timed_watching(work: Callable[[], Any]) -> tuple[float, Any, float]:
    """Duration of a call in seconds, its result, and the share of the machine that others used."""
    before = cpu_of_others()
    seconds, result = timed(work)
    share = (cpu_of_others() - before) / seconds / (os.cpu_count() or 1)
    return seconds, result, max(0.0, share)


def timed_quietly(work: Callable[[], Any]) -> tuple[float, float]:
    """Duration of a call in seconds, and the share of the machine that others used meanwhile.

    Where others had more than a tenth it is tried again, and the least disturbed of three
    counts. Pairing does not help against that: a library that splits its work evenly
    between the cores waits for the disturbed one, and so loses several times as much as one
    that hands out small pieces.
    """
    tries: list[tuple[float, float]] = []
    while not tries or (tries[-1][0] > 0.1 and len(tries) < 3):
        seconds, _, share = timed_watching(work)
        tries.append((share, seconds))
    share, seconds = min(tries)
    return seconds, share


def interleaved(
    contestants: Mapping[str, Callable[[], Any]], rounds: int, *, warm_up: bool = True
) -> tuple[Seconds, dict[str, float]]:
    """Seconds of every contestant in every round, after one unmeasured call of each.

    Whatever else the machine does then falls on all of them, and every other round runs
    backwards, so that none always follows the same neighbour. Also the share of the machine
    that others had: in the median measurement and the most disturbed one.
    """
    for work in contestants.values() if warm_up else ():
        work()
    seconds: Seconds = {name: [] for name in contestants}
    others: list[float] = []
    for number in range(rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            took, share = timed_quietly(contestants[name])
            seconds[name].append(took)
            others.append(share)
    return seconds, disturbance(others)


def disturbance(others: Sequence[float]) -> dict[str, float]:
    """The share of the machine that others used, as text."""
    return {"median": statistics.median(others), "most": max(others)}


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median of each contestant's rounds."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratio(slower: Sequence[float], faster: Sequence[float]) -> dict[str, float]:
    """Ratios of two contestants: that of their medians, and the median of the paired ratios."""
    paired = [a / b for a, b in zip(slower, faster, strict=False)]
    return {
        "of_medians": statistics.median(slower) / statistics.median(faster),
        "paired": statistics.median(paired),
        "least": min(paired),
        "most": max(paired),
    }


def in_fresh_process(script: str, *arguments: object, limit: float | None = None) -> dict[str, Any]:
    """Run an internal command of a script in a new process, which prints JSON as its last line.

    After `limit` seconds it is ended, and subprocess.TimeoutExpired raised.
    """
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def write_result(name: str, result: dict[str, Any], *, announced: bool = True) -> None:
    """Write ``results/<name>.json`` with a description of the machine and the libraries.

    The file replaces an earlier one as a whole, so that one that grows is never cut short.
    """
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "cores": joblib.cpu_count(),
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "instructions": _instructions(),
        "versions": {package: number for package in PACKAGES if (number := _version(package))},
    }
    path = RESULTS / f"{name}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**result, "machine": machine}, indent=2) + "\n")
    part.replace(path)
    if announced:
        print(f"-> {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def _instructions() -> str:
    """The widest vector instructions that torch uses here, which decide the speeds."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a peer that is measured in one of the benchmarks only
        return None
