"""Versions, devices, engines and weights of this machine."""

import platform
from importlib import metadata
from typing import Any

import numpy as np
import torch

from sktransfer.backbones.local import local_weights
from sktransfer.backbones.weights import check_sha256, file_sha256
from sktransfer.cli.check.findings import Finding, counted
from sktransfer.exceptions import WeightsMismatchError
from sktransfer.features import PretrainedCNNFeatures
from sktransfer.networks.devices import resolve_device
from sktransfer.networks.engines import resolve_engine

_FOR_DEVELOPERS = {"test", "docs", "bench"}

# How far engines may be apart, relative to the largest feature.
_TOLERANCE = 1e-3


def inspect_installation() -> tuple[dict[str, Any], list[Finding]]:
    """Versions, devices, engines and weights, and what is wrong with them."""
    packages, findings = _packages()
    device = resolve_device("auto")
    engines, more = _engines()
    weights, most = _weights()
    installation = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "device": str(device),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
        "engine": resolve_engine("auto", device),
        "engines": engines,
        "weights": weights,
    }
    return installation, findings + more + most


def _packages() -> tuple[dict[str, str | None], list[Finding]]:
    """Versions of all that sktransfer's own metadata names, None for what is not installed."""
    from packaging.requirements import Requirement

    packages: dict[str, str | None] = {"sktransfer": metadata.version("sktransfer")}
    extras = set(metadata.metadata("sktransfer").get_all("Provides-Extra") or []) - _FOR_DEVELOPERS
    unmet = []
    for line in metadata.requires("sktransfer") or []:
        wanted = Requirement(line)
        needed = _applies(wanted.marker, "")
        optional = any(_applies(wanted.marker, extra) for extra in extras)
        if wanted.name == "sktransfer" or not (needed or optional):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            version = None
        packages[wanted.name] = version
        too_old = version is not None and not wanted.specifier.contains(version, prereleases=True)
        if too_old or (needed and version is None):
            unmet.append(f"{wanted.name}{wanted.specifier} ({version or 'not installed'})")
    if not unmet:
        return packages, []
    text = f"{counted(unmet, 'package')} not as sktransfer needs them; `pip install -U` mends it"
    return packages, [Finding("package", text, unmet)]


def _applies(marker: Any, extra: str) -> bool:
    return marker is None or bool(marker.evaluate({"extra": extra}))


def _engines() -> tuple[dict[str, float], list[Finding]]:
    """Difference of each engine's features from torch's, relative to the largest.

    The default network runs on noise, so that packages are not only there but work.
    """
    noise = np.random.default_rng(0).random((2, 32, 32, 3))
    features, findings = {}, []
    for engine in ("torch", "openvino"):
        try:
            resolve_engine(engine, torch.device("cpu"))
        except ImportError:
            continue
        try:
            extractor = PretrainedCNNFeatures(image_size=32, engine=engine, device="cpu")
            features[engine] = extractor.fit_transform(noise)
        except Exception as error:  # whatever is broken is what we are here to tell
            text = f"engine={engine!r} fails: {type(error).__name__}: {error}"
            findings.append(Finding("engine", text, [engine]))
    if "torch" not in features:
        return {}, findings
    expected = features["torch"]
    differences = {
        engine: float(np.abs(found - expected).max() / np.abs(expected).max())
        for engine, found in features.items()
    }
    for engine, difference in differences.items():
        if not difference < _TOLERANCE:
            text = f"engine={engine!r} is {difference:.1e} off torch, relative to the largest value"
            findings.append(Finding("engine", text, [engine]))
    return differences, findings


def _weights() -> tuple[list[dict[str, Any]], list[Finding]]:
    weights, findings = [], []
    for name, path, expected in local_weights():
        sha256 = file_sha256(path)
        intact = None if expected is None else True
        if expected is not None:
            try:
                check_sha256(sha256, expected, f"{path}, the weights of {name!r},")
            except WeightsMismatchError as error:
                intact = False
                findings.append(Finding("weights", str(error), [name]))
        weights.append({"backbone": name, "path": str(path), "sha256": sha256, "intact": intact})
    return weights, findings
