"""What the benchmarks share: where results go, and on what they were measured."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib

RESULTS = Path(__file__).parent / "results"


def write_result(name: str, result: dict[str, Any]) -> None:
    """Write ``results/<name>.json`` with the machine's and the libraries' description."""
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "cores": joblib.cpu_count(),
        "python": platform.python_version(),
        "architecture": platform.machine(),
        "versions": {p: version(p) for p in ("numpy", "scikit-learn", "torch", "timm", "pillow")},
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**result, "machine": machine}, indent=2) + "\n")
    print(f"-> {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
