"""Tables of fine-tuning in the README of this folder, out of the files of results."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from _common import RESULTS

README = Path(__file__).parent / "README.md"
TOLERANCE = 0.005
OURS, RIVALS = "ours, default", ("ours, frozen", "tuned loop")

# File, what rows are called, and columns: heading, path of keys, format, factor.
Column = tuple[str, tuple[str, ...], str, float]
SCORES: tuple[Column, ...] = (
    ("accuracy", ("accuracy", "mean"), ".3f", 1),
    ("log loss", ("log_loss", "mean"), ".3f", 1),
    ("ECE", ("ece", "mean"), ".3f", 1),
)
NUMBERS: tuple[Column, ...] = (
    ("R2", ("r2", "mean"), ".3f", 1),
    ("mean absolute error", ("mae", "mean"), ".2f", 1),
)
SECONDS: tuple[Column, ...] = (("seconds to fit", ("fit_seconds",), ".1f", 1),)
MEMORY: tuple[Column, ...] = (("peak MB", ("peak_bytes",), ",.0f", 1e-6),)
SEARCH: tuple[Column, ...] = (("of its search", ("search_seconds",), ".0f", 1),)
RECALL: tuple[Column, ...] = (
    ("balanced accuracy", ("balanced_accuracy", "mean"), ".3f", 1),
    ("recall of the rare", ("runs", "0", "recall", "few"), ".3f", 1),
    ("of the frequent", ("runs", "0", "recall", "many"), ".3f", 1),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "compare": (*SCORES, *NUMBERS, *SECONDS, *SEARCH, *MEMORY),
    "photos": (*SCORES, *SECONDS, *MEMORY),
    "speed": (*SCORES[:1], *SECONDS, *MEMORY),
    "imbalance": (*RECALL, *SCORES[:2], *SECONDS),
    "full": (*SCORES[:2], *SECONDS),
    "search": (*SCORES[:1], *SECONDS),
}


# Whether the default is as good as it must be


def verdicts(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Of each set "yes", or "no" and by how much the default is behind what.

    It must not be more than 0.005 less accurate (in R2 for numbers) than frozen features or the
    tuned loop, and its log loss not larger than theirs.
    """
    made = {}
    for name, contestants in found.items():
        ours = contestants.get(OURS)
        rivals = {rival: contestants[rival] for rival in RIVALS if rival in contestants}
        if ours is None or not rivals:
            continue
        lost = [text for rival, theirs in rivals.items() for text in behind(ours, theirs, rival)]
        made[name] = f"no: {'; '.join(lost)}" if lost else "yes"
    return made


def behind(ours: Mapping[str, Any], theirs: Mapping[str, Any], rival: str) -> Iterator[str]:
    """By how much ours is worse than a rival, in words."""
    for score, heading, least in (
        ("accuracy", "accuracy", TOLERANCE),
        ("r2", "R2", TOLERANCE),
        ("log_loss", "log loss", 0.0),
    ):
        if score not in ours or score not in theirs:
            continue
        sign = -1 if score == "log_loss" else 1
        difference = ours[score]["mean"] - theirs[score]["mean"]
        if sign * difference < -least:
            yield f"{heading} {difference:+.3f} to {rival.removeprefix('ours, ')}"


# Markdown


def at(content: Any, path: tuple[str, ...]) -> Any:
    """What lies at a path of keys or positions; None if it leads nowhere."""
    for key in path:
        try:
            content = content[int(key)] if isinstance(content, list) else content[key]
        except (KeyError, IndexError):
            return None
    return content


def table(rows: Mapping[str, Any], columns: tuple[Column, ...], heading: str = "") -> str:
    """Rows by name, with the columns that any of them has."""
    used = [one for one in columns if any(at(row, one[1]) is not None for row in rows.values())]
    lines = [
        "| " + " | ".join([heading, *(one[0] for one in used)]) + " |",
        "|---|" + "---:|" * len(used),
    ]
    for name, row in rows.items():
        cells = [
            "" if (value := at(row, path)) is None else shown(value * factor, form)
            for _, path, form, factor in used
        ]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def shown(value: float, form: str) -> str:
    """A figure as the other tables have it, without the zero before the point."""
    return re.sub(r"^(-?)0\.", r"\1.", format(value, form))


def section(command: str) -> str:
    """All tables of a command."""
    path = RESULTS / f"finetuning_{command}.json"
    if not path.exists():
        print(f"there is no {path.name}, so its tables are empty: run finetuning.py {command}")
        return ""
    result = json.loads(path.read_text())
    group = result.get("sets") or result["labels"]
    parts = [settings(result)]
    for name, contestants in group.items():
        unit = "" if "sets" in result else " labels"
        parts += [f"**{name}{unit}**", table(contestants, COLUMNS[command])]
        if verdict := result.get("verdicts", {}).get(name):
            parts.append(f"Is the default where it must be? {verdict.capitalize()}.")
    return "\n\n".join(parts) + "\n"


def settings(result: Mapping[str, Any]) -> str:
    """How the figures were made, in a line."""
    peers = ", ".join(f"{name} {number}" for name, number in result.get("peers", {}).items())
    versions = result["machine"]["versions"]
    known = f"torch {versions['torch']}" + (f", {peers}" if peers else "")
    return f"Rounds: {result['rounds']}. Threads: {result['threads']}. Versions: {known}."


def write_tables() -> None:
    """Replace what is between the markers of the README by tables of the present results."""

    def filled(match: re.Match[str]) -> str:
        tables = section(match[2])
        return match[1] + (f"\n{tables}\n" if tables else "") + match[3]

    marker = re.compile(r"(<!-- finetuning (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    README.write_text(marker.sub(filled, README.read_text()))
