"""The main job on real data: ``python -m sktransfer demo``."""

import argparse
import json
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

from sktransfer._files import check_writable
from sktransfer.cli.options import at_least
from sktransfer.cli.printing import printable

LAYERS = ("blocks.2", "blocks.3", "blocks.4", "penultimate")
RAW = "raw pixels"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Few-label digits from a frozen ImageNet network; offline, a minute or two."
    )
    command.add_argument(
        "--plot",
        default="sktransfer-demo.png",
        metavar="FILE",
        help="where the plot goes (default: %(default)s)",
    )
    command.add_argument(
        "--seeds", type=at_least(1), default=5, metavar="N", help="random splits (default: 5)"
    )


def main(options: argparse.Namespace) -> int:
    """Run, print, plot if matplotlib is there; the exit status is 0."""
    _check_plot(options.plot)
    from sktransfer.cli import digits

    report = digits.run(n_seeds=options.seeds)
    try:
        save_plot(report, options.plot)
        report["plot"] = options.plot
    except ImportError:
        report["plot"] = None
    if options.json:
        print(json.dumps(report, indent=2))
        return 0
    print(format_table(report))
    if report["plot"]:
        print(f"plot: {printable(options.plot)}")
    else:
        print('no plot: matplotlib is not installed; `pip install "sktransfer[plot]"` brings it')
    return 0


def format_table(report: dict[str, Any]) -> str:
    """The results as text: every candidate, then what the search chose."""
    sizes = sorted({c["n_labels"] for c in report["candidates"]})
    lines = [
        f"{report['dataset']}, {report['backbone']}: test accuracy, mean of "
        f"{report['n_seeds']} splits, and gain over raw pixels with the same head",
        "",
        f"{'layer':<12} {'head':<20} {'PCA':>4}"
        + "".join(f"{f'{n} labels':>12} {'gain':>6}" for n in sizes),
    ]
    rows: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for c in report["candidates"]:
        rows.setdefault((c["layer"], c["head"], c["n_components"]), {})[c["n_labels"]] = c
    for (layer, head, k), cells in rows.items():
        line = f"{layer:<12} {head:<20} {k:>4}"
        for n in sizes:
            gain = "" if layer == RAW else f"{cells[n]['gain_over_raw_pixels']:+.3f}"
            line += f"{cells[n]['accuracy']:>12.3f} {gain:>6}"
        lines.append(line)
    lines.append("")
    for n in sizes:
        found = [s for s in report["searches"] if s["n_labels"] == n]
        chosen = Counter(s["layer"] for s in found).most_common()
        votes = ", ".join(f"{layer} ({count} of {len(found)} splits)" for layer, count in chosen)
        accuracy, raw = (
            fmean([s[key] for s in found]) for key in ("accuracy", "raw_pixels_accuracy")
        )
        lines.append(
            f"{n} labels: GridSearchCV chose {votes}: accuracy {accuracy:.3f}, "
            f"raw pixels searched alike {raw:.3f}"
        )
    lines.append(f"{report['seconds']} seconds")
    return "\n".join(lines)


def save_plot(report: dict[str, Any], path: str) -> None:
    """Accuracy by layer, best candidate of each, beside raw pixels."""
    from matplotlib.figure import Figure

    sizes = sorted({c["n_labels"] for c in report["candidates"]})
    figure = Figure(figsize=(4.6 * len(sizes), 3.8), layout="constrained")
    axes = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for ax, n in zip(axes, sizes, strict=True):
        best = {
            layer: max(
                c["accuracy"]
                for c in report["candidates"]
                if c["n_labels"] == n and c["layer"] == layer
            )
            for layer in (RAW, *LAYERS)
        }
        ax.axhline(best[RAW], color="0.4", linestyle="--", label=RAW)
        ax.plot(LAYERS, [best[layer] for layer in LAYERS], marker="o", label="frozen features")
        ax.set_title(f"{n} labels")
        ax.set_xlabel("layer, shallow to deep")
        ax.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("test accuracy")
    axes[0].legend()
    figure.suptitle("Digits from a frozen ImageNet network: the layer decides")
    figure.savefig(path, dpi=150)


def _check_plot(plot: str) -> None:
    """Find out before the long work what would go wrong after it."""
    path = Path(plot)
    check_writable(path)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    known = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        raise ValueError(f"--plot must end in one of {', '.join(known)}, got {plot}")
