"""Convert torchvision's classification models to OpenVINO, and measure the differences.

Each model has random weights, its published image size and its own process; batch norm is fitted to
a batch of noise. It is converted as by the first `transform` with a feature store: with average and
maximum of every stage and of what the classifier sees. All of these are then compared with torch's
on two images of noise; the difference is relative to the largest value of the same kind. A model
that fails is one for which ``engine="auto"`` falls back to torch, for the reason shown.
"""

import argparse
import fnmatch
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from _common import timed, write_result
from torch import nn
from torchvision.models import get_model_weights

from sktransfer import list_backbones


def fit_batch_norm(module: nn.Module, images: torch.Tensor) -> None:
    """Set running statistics, as training would.

    With those of a new network the signal of a deep one fades to 1e-13 on its way, where
    neither a difference nor the engine's own check of what it converted means much.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0  # this batch's statistics and nothing of those before
        norm.train()
    with torch.inference_mode():
        module(images)
    module.eval()


def measure(name: str, threads: int) -> dict[str, Any]:
    """Convert and compare in this process."""
    from sktransfer.backbones import load_backbone
    from sktransfer.exceptions import ConversionError
    from sktransfer.networks.engines import Network, openvino_engine, torch_engine

    torch.set_num_threads(threads)
    backbone = load_backbone(name, "random", random_state=0)
    how = backbone.info.preprocessing
    assert how.size is not None
    noise = torch.randn(8, how.in_channels, *how.size, generator=torch.Generator().manual_seed(1))
    fit_batch_norm(backbone.module, noise)
    trace = backbone.trace(how.size)
    network = Network(backbone.module, trace, backbone.fingerprint)
    reads = trace.usual_reads()
    found: dict[str, Any] = {"size": how.size[0], "reads": len(reads)}
    found["parameters"] = sum(parameter.numel() for parameter in backbone.module.parameters())
    try:
        seconds, engine = timed(lambda: openvino_engine(network, reads, "float32"))
    except ConversionError as error:
        return {**found, "error": str(error)}
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((2, *how.size, how.in_channels), dtype=np.float32)
    right = torch_engine(network, reads, torch.device("cpu"), "float32")(pixels)
    differences = {
        f"{read.layer}/{read.pooling}": float(np.abs(a - b).max() / np.abs(b).max())
        for read, a, b in zip(reads, engine(pixels), right, strict=True)
    }
    worst = max(differences, key=differences.__getitem__)
    return {**found, "seconds": seconds, "difference": differences[worst], "worst": worst}


def in_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The result for a model, even if it crashes or hangs its process."""
    command = [sys.executable, __file__, "--measure", name, "--threads", str(options.threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout)
    except subprocess.TimeoutExpired:
        return {"broken": f"took longer than {options.timeout} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"broken": last}
    return json.loads(done.stdout.splitlines()[-1])


def together(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The same in this process, which saves the start of another; memory is that of all so far."""
    try:
        found = measure(name, options.threads)
    except Exception as error:
        return {"broken": f"{type(error).__name__}: {error}"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**found, "peak_MB": peak}


def n_parameters(name: str) -> int:
    """The published image size."""
    return int(next(iter(get_model_weights(name))).meta["num_params"])


def family_of(name: str) -> str:
    """resnext50_32x4d is a resnext, vit_b_16 a vit, efficientnet_v2_s an efficientnet."""
    return re.match(r"[a-z]+", name).group()  # type: ignore[union-attr]


def main() -> None:
    options_of = argparse.ArgumentParser(description=__doc__)
    options_of.add_argument("--pattern", default="*", help="as in list_backbones")
    options_of.add_argument("--threads", type=int, default=2)
    options_of.add_argument("--timeout", type=float, default=1200, help="seconds for one model")
    options_of.add_argument("--together", action="store_true", help="all in one process")
    options_of.add_argument("--budget", type=float, help="seconds after which no model is begun")
    options_of.add_argument("--quick", action="store_true", help="two small models")
    options_of.add_argument("--measure", help=argparse.SUPPRESS)
    options = options_of.parse_args()
    if options.measure:
        found = measure(options.measure, options.threads)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**found, "peak_MB": peak}))
        return
    names = [n for n in list_backbones() if not n.startswith("efficientnet_lite")]
    names = ["squeezenet1_1", "shufflenet_v2_x0_5"] if options.quick else names
    names = sorted(fnmatch.filter(names, options.pattern), key=n_parameters)
    models: dict[str, dict[str, Any]] = {}
    print(f"{'':<22} {'pixels':>6} {'seconds':>8} {'difference':>11} {'peak MB':>8}")
    begun = time.monotonic()
    for name in names:
        if options.budget is not None and time.monotonic() - begun > options.budget:
            break
        found = models[name] = (together if options.together else in_process)(name, options)
        if "difference" in found:
            shown = (
                f"{found['seconds']:>8.1f} {found['difference']:>11.1e} {found['peak_MB']:>8.0f}"
            )
            print(f"{name:<22} {found['size']:>6} {shown}", flush=True)
        else:
            print(f"{name:<22} {found.get('error') or found['broken']}", flush=True)

    families = defaultdict(list)
    for name, found in models.items():
        families[family_of(name)].append(found)
    print(f"\n{'family':<14} {'models':>7} {'converted':>10} {'median s':>9} {'difference':>11}")
    for family, members in families.items():
        good = [found for found in members if "difference" in found]
        shown = ""
        if good:
            seconds = statistics.median(found["seconds"] for found in good)
            shown = f"{seconds:>9.1f} {max(found['difference'] for found in good):>11.1e}"
        print(f"{family:<14} {len(members):>7} {len(good):>10} {shown}")
    n_good = sum("difference" in found for found in models.values())
    not_run = [name for name in names if name not in models]
    print(f"{n_good} of {len(models)} are converted; not run: {', '.join(not_run) or 'none'}")
    if not options.quick and options.pattern == "*":  # a part must not stand for the whole
        found = {"threads": options.threads, "models": models, "not_run": not_run}
        write_result("convertible", found)


if __name__ == "__main__":
    main()
