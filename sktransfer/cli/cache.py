"""A feature store from the shell: ``python -m sktransfer cache info | prune | verify``."""

import argparse
import json
import re
import sqlite3
import sys
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sktransfer.cli.options import add_command
from sktransfer.cli.printing import one_line, printable

if TYPE_CHECKING:
    from sktransfer.store import FeatureStore

_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the actions and what they take."""
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_command(actions, "info", help="what is in it, by network")
    prune = add_command(actions, "prune", help="remove the oldest vectors")
    prune.add_argument("--max-bytes", type=size, metavar="SIZE", help="such as 500M or 20G")
    prune.add_argument("--older-than", type=age, metavar="AGE", help="such as 12h, 30d or 8w")
    add_command(
        actions,
        "verify",
        help="check every vector, remove the damaged ones",
        success="all intact",
        incomplete="damage found, and removed unless stderr says why not",
    )
    for action in actions.choices.values():
        action.add_argument("directory", help="the folder given as cache=")


def main(options: argparse.Namespace) -> int:
    """Run the command and return its exit status: 1 if `verify` found damage."""
    from sktransfer.store import FeatureStore  # NumPy, which `--help` does without

    store = FeatureStore(options.directory)
    if not store.exists():
        raise ValueError(f"{options.directory} holds no feature store; give the folder of cache=")
    try:
        return _ACTIONS[options.action](store, options)
    except sqlite3.Error as error:
        raise OSError(
            f"{options.directory} cannot be used: {error}; check its permissions, the free space, "
            "and whether another program holds it"
        ) from error


def _info(store: "FeatureStore", options: argparse.Namespace) -> int:
    info = store.info()
    print(json.dumps(info, indent=2) if options.json else _table(info))
    return 0


def _prune(store: "FeatureStore", options: argparse.Namespace) -> int:
    if options.max_bytes is None and options.older_than is None:
        raise ValueError("prune needs --max-bytes or --older-than")
    removed = store.prune(max_bytes=options.max_bytes, older_than=options.older_than)
    n_bytes = store.info()["bytes"]
    if options.json:
        print(json.dumps({"removed": removed, "bytes": n_bytes}))
    else:
        print(f"{removed} vectors removed, {_size(n_bytes)} left")
    return 0


def _verify(store: "FeatureStore", options: argparse.Namespace) -> int:
    from sktransfer.store.database import DamagedError

    print(f"verifying {printable(options.directory)} ...", file=sys.stderr)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            checked, removed = store.verify()
        except DamagedError as error:  # and it has to stay
            print(f"sktransfer: error: {one_line(error)}", file=sys.stderr)
            return 1
    rebuilt = [str(warning.message) for warning in caught]
    if options.json:
        print(json.dumps({"checked": checked, "removed": removed, "rebuilt": rebuilt}))
    else:
        print(
            *map(one_line, rebuilt),
            f"{checked} vectors checked, {removed} damaged and removed",
            sep="\n",
        )
    return 1 if removed or rebuilt else 0


_ACTIONS = {"info": _info, "prune": _prune, "verify": _verify}


def _table(info: dict[str, Any]) -> str:
    lines = [
        f"{printable(info['path'])}: {_size(info['bytes'])}, {info['samples']} samples, "
        f"{info['vectors']} vectors"
    ]
    for group in info["namespaces"]:
        when = _date(group["last_stored"])
        lines.append(
            f"  {printable(group['namespace'][:8])}  {printable(group['description'])}: "
            f"{group['samples']} samples, {_size(group['vector_bytes'])}, "
            f"{group['n_forward']} forward, last {when}"
        )
    return "\n".join(lines)


def _date(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):  # of a damaged row
        return "?"


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def size(text: str) -> int:
    """Bytes from "500000", "20k", "1.5G"."""
    return int(_number(text, r"([kmgt]?)b?", _BYTES, "a size such as 500M or 20GB"))


def age(text: str) -> float:
    """Seconds from "90s", "12h", "30d", "8w"."""
    return _number(text, r"([smhdw])", _SECONDS, "an age such as 12h, 30d or 8w")


def _number(text: str, unit: str, factors: dict[str, int], expected: str) -> float:
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*{unit}", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"must be {expected}, got {text!r}")
    return float(match[1]) * factors[match[2]]
