"""Figures out of files of results, as text: paths, formats, and on what they were measured."""

import json
import statistics
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

MAIN = ("torch", "scikit-learn", "openvino", "transformers", "dask", "embetter")
"""Packages whose versions are stated below each table; all of them are in a table of their own."""

QUIET = 0.1
"""The share of the machine beyond which other work is worth a remark."""

NOTHING = "–"  # noqa: RUF001


def find(content: Any, path: list[str]) -> Any:
    """What lies at a path of keys, or of positions in lists."""
    for key in path:
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content


def rows_of(content: Any, path: str, names: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value of each row that a path with a star leads to."""
    before, after = (
        [key.strip() for key in part.split(">") if key.strip()] for part in split(path)
    )
    held = find(content, before)
    for key, item in held.items() if isinstance(held, Mapping) else enumerate(held):
        try:
            value = find(item, after)
        except (KeyError, IndexError, TypeError):  # this row has no such figure
            continue
        yield f"{item[names]:,}" if names else str(key), value


def split(path: str) -> tuple[str, str]:
    """A path before and after its star."""
    before, star, after = path.partition("*")
    if not star:
        raise ValueError(f"the path {path!r} has no * for the rows")
    return before, after


def written(value: Any, form: str, factor: float = 1.0) -> str:
    """A figure as text; of a list its median."""
    if isinstance(value, list):
        if not value:
            return NOTHING
        value = statistics.median(value)
    if isinstance(value, str):
        return value
    return format(value * factor, form)


def columns_of(lines: list[str]) -> Iterator[tuple[str, str, str, float]]:
    """Heading, path, format and factor from each line."""
    for line in lines:
        parts = [part.strip() for part in line.split("|")]
        if len(parts) not in (3, 4):
            raise ValueError(f"{line!r} must read: heading | path | format [| factor]")
        yield parts[0], parts[1], parts[2], float(parts[3]) if len(parts) == 4 else 1.0


def figure_of(results: Path, text: str) -> str:
    """One figure, from ``file > path ; format ; factor``; the factor may be left out."""
    path, form, *factor = [part.strip() for part in text.split(";")]
    name, *keys = [key.strip() for key in path.split(">")]
    content = json.loads((results / f"{name}.json").read_text())
    return written(find(content, keys), form, *map(float, factor))


def machine_of(result: Mapping[str, Any], packages: Collection[str] | None = None) -> str:
    """On what a result was made, in a line, with the versions of these packages or of all."""
    machine = dict(result["machine"])
    versions = machine.pop("versions", {})
    python = machine.pop("python", None)
    cores = machine.pop("cores", None)
    parts = [f"{cores} cores"] if cores else []
    parts += [str(value) for value in machine.values() if isinstance(value, str | int | float)]
    if "threads" in result:
        parts.append(f"{result['threads']} thread{'s' * (result['threads'] != 1)}")
    parts += [f"{result['clock']} time"] if "clock" in result else []
    parts += [f"Python {python}"] if python else []
    versions = {p: v for p, v in versions.items() if packages is None or p in packages}
    named = {**versions, **result.get("peers", {})}
    return ", ".join(parts + [f"{package} {number}" for package, number in named.items()])


def others_in(content: Any) -> Iterator[float]:
    """Shares of the machine that other work had, wherever a result states them."""
    if isinstance(content, list):
        for item in content:
            yield from others_in(item)
    elif isinstance(content, Mapping):
        for key, item in content.items():
            if key != "others":
                yield from others_in(item)
            elif isinstance(item, Mapping):
                yield item["median"]
            elif isinstance(item, int | float):
                yield item


def noise_of(result: Mapping[str, Any]) -> str:
    """A remark where times were taken on a machine that had other work."""
    worst = max(others_in(result), default=0.0)
    return f" Other work had up to {min(worst, 1.0):.0%} of the machine." if worst > QUIET else ""
