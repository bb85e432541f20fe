"""Measure the speed of methods between domains, beside skada, and its growth with the rows.

    python domain_speed.py speed     every method that skada has, too, at 2,000 + 2,000 rows
    python domain_speed.py growth    KMM, TCA and MMD at 2,000 to 20,000 rows of each domain

Rows have 20 Gaussian features, with another mean and scale in the target. The time of a map
includes fitting it and mapping the same rows; that of a method that weights rows includes fitting
it, which gives the weights. Both packages get the same parameters. The default is one thread.

If the two do not compute the same thing, the name says so. TCA is approximated by ours beyond
1,000 rows (by default), so that it is measured with the full matrix as well. For KMM skada takes
steps of Frank and Wolfe's method and for KLIEP small steps of gradient ascent, both until one of
them gains little or 1,000 are done; ours continues to the optimum. So the results report what both
reach: the objective of KMM, which should be low, and the mean logarithm of the ratio of KLIEP over
the target, which should be high.

For growth each size runs in its own process, whose peak memory is measured.
"""

import argparse
import json
import resource
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from _common import in_fresh_process, interleaved, medians, parser, ratio, timed, write_result
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from threadpoolctl import threadpool_limits

from sktransfer.adaptation import (
    CORAL,
    KLIEP,
    ClassifierDensityRatio,
    KernelMeanMatching,
    NearestNeighborWeights,
    OptimalTransportMap,
    SubspaceAlignment,
    TransferComponentAnalysis,
)
from sktransfer.metrics import mmd

FEATURES, COMPONENTS, GAMMA = 20, 10, 0.05
GAMMAS = [GAMMA * 4.0**power for power in range(-3, 4)]
SIZES = (2_000, 5_000, 10_000, 20_000)
GROWING = ("KMM", "TCA", "MMD")

Work = Callable[[], Any]


def domains(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """So many rows of each domain, their labels, and which domain they are of."""
    rng = np.random.default_rng(0)
    source = rng.normal(size=(n, FEATURES))
    target = rng.normal(0.5, 0.8, size=(n, FEATURES))
    X = np.concatenate([source, target])
    y = (X[:, :3].sum(axis=1) > 0).astype(np.int64)
    return X, y, np.repeat([1, -1], n)


def contestants(n: int) -> dict[str, tuple[Any, Any]]:
    """Ours and skada's of each method, with the same parameters."""
    from _skada import skada

    tca = partial(TransferComponentAnalysis, COMPONENTS, gamma=1 / FEATURES, mu=0.1, random_state=0)
    peer_tca = skada.TransferComponentAnalysisAdapter(n_components=COMPONENTS, mu=0.1)
    kliep = partial(KLIEP, random_state=0)
    peer_kliep = partial(skada.KLIEPReweightAdapter, random_state=0)
    return {
        "CORAL": (CORAL("auto"), skada.CORALAdapter()),
        "subspace alignment": (
            SubspaceAlignment(COMPONENTS),
            skada.SubspaceAlignmentAdapter(n_components=COMPONENTS),
        ),
        "TCA, ours by 1,000 landmarks": (tca(), peer_tca),
        "TCA, full matrix": (tca(n_landmarks=2 * n), peer_tca),
        "linear OT": (OptimalTransportMap("linear"), skada.LinearOTMappingAdapter()),
        "EMD": (OptimalTransportMap("emd"), skada.OTMappingAdapter(max_iter=1_000_000)),
        "Sinkhorn": (OptimalTransportMap("sinkhorn"), skada.EntropicOTMappingAdapter()),
        "class-regularised OT": (
            OptimalTransportMap("class-regularised"),
            skada.ClassRegularizerOTMappingAdapter(),
        ),
        "KMM": (KernelMeanMatching(gamma=GAMMA), skada.KMMReweightAdapter(gamma=GAMMA)),
        "KLIEP": (kliep(gamma=GAMMA), peer_kliep(gamma=GAMMA)),
        "KLIEP, one of 7 kernels": (kliep(gamma=GAMMAS), peer_kliep(gamma=GAMMAS)),
        "nearest neighbour": (
            NearestNeighborWeights(),
            skada.NearestNeighborReweightAdapter(laplace_smoothing=True),
        ),
        "classifier density ratio": (
            ClassifierDensityRatio(LogisticRegression(), cv=None),
            skada.DiscriminatorReweightAdapter(LogisticRegression()),
        ),
    }


def ours(method: Any, X: np.ndarray, y: np.ndarray, sample_domain: np.ndarray) -> np.ndarray:
    """Mapped rows, or weights of rows."""
    method = clone(method)
    if hasattr(method, "transform"):
        return method.fit_transform(X, y, sample_domain=sample_domain)
    return method.fit(X, y, sample_domain=sample_domain).sample_weight_


def objective(name: str, method: Any, data: tuple[np.ndarray, ...]) -> float | None:
    """The objective that a solver reached, if the two stop at different points."""
    X, _, sample_domain = data
    source, target = X[sample_domain > 0], X[sample_domain < 0]
    if name not in ("KMM", "KLIEP"):
        return None
    fitted = clone(method).fit(X, sample_domain=sample_domain)
    if name == "KMM":
        weights = getattr(fitted, "source_weights_", None)
        if weights is None:
            weights = fitted.sample_weight_[sample_domain > 0] * fitted.mean_weight_
        kappa = len(source) * rbf_kernel(source, target, gamma=GAMMA).mean(axis=1)
        product = rbf_kernel(source, gamma=GAMMA) @ weights
        return float(weights @ product / 2 - kappa @ weights)
    if isinstance(fitted, KLIEP):
        return fitted.score_
    kernel = rbf_kernel(target, fitted.centers_, gamma=fitted.best_gamma_)
    return float(np.log(kernel @ fitted.alpha_).mean())


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every method, ours and skada's in turns."""
    from _skada import weights_or_rows

    data = domains(options.n)
    found: dict[str, Any] = {}
    print(f"{'':<32}{'ours s':>9}{'skada s':>9}  skada / ours")
    for name, (mine, peer) in contestants(options.n).items():
        if options.methods and name not in options.methods:
            continue
        works: dict[str, Work] = {
            "ours": partial(ours, mine, *data),
            "skada": partial(weights_or_rows, peer, *data),
        }
        both = {"ours": mine, "skada": peer}
        reached = {who: objective(name, method, data) for who, method in both.items()}
        seconds, others = interleaved(works, options.rounds)
        took, times = medians(seconds), ratio(seconds["skada"], seconds["ours"])
        found[name] = {"seconds": took, "skada / ours": times, "runs": seconds, "others": others}
        told = ""
        if reached["ours"] is not None:
            found[name]["objective"] = reached
            told = f"  objective {reached['ours']:.6g}, skada {reached['skada']:.6g}"
        print(
            f"{name:<32}{took['ours']:>9.4f}{took['skada']:>9.4f}{times['paired']:>9.2f} "
            f"({times['least']:.2f} to {times['most']:.2f})" + told,
            flush=True,
        )
    return {
        "threads": options.threads,
        "rounds": options.rounds,
        "rows": options.n,
        "features": FEATURES,
        "peers": {name: version(name) for name in ("skada", "POT")},
        "methods": found,
    }


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str, n: int) -> dict[str, Any]:
    """In this fresh process: one method on n rows of each domain."""
    X, y, sample_domain = domains(n)
    # Parts of scikit-learn and BLAS that are made ready at their first use are no part of it.
    small = [part[:: max(1, n // 50)] for part in (X, y, sample_domain)]
    works: dict[str, Callable[..., Any]] = {
        "KMM": partial(ours, KernelMeanMatching()),
        "TCA": partial(ours, TransferComponentAnalysis(COMPONENTS, random_state=0)),
        "MMD": lambda X, y, domain: mmd(X[domain > 0], X[domain < 0]),
    }
    works[name](*small)
    before = peak_bytes()
    seconds, _ = timed(partial(works[name], X, y, sample_domain))
    return {"rows": n, "seconds": seconds, "peak_bytes": peak_bytes(), "loaded_bytes": before}


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory, median and most of the rounds."""
    found: dict[str, Any] = {}
    print(f"{'':<6}{'rows':>8}{'seconds':>10}{'peak MB':>9}{'of it before':>14}")
    for name in GROWING:
        found[name] = []
        for n in options.sizes:
            runs = [
                in_fresh_process(__file__, "--measure", name, n, "--threads", options.threads)
                for _ in range(options.rounds)
            ]
            middle = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]
            peak = max(run["peak_bytes"] for run in runs)
            found[name].append({**middle, "peak_bytes": peak, "runs": runs})
            print(
                f"{name:<6}{n:>8}{middle['seconds']:>10.2f}{peak / 1e6:>9.0f}"
                f"{middle['loaded_bytes'] / 1e6:>14.0f}",
                flush=True,
            )
    return {
        "threads": options.threads,
        "rounds": options.rounds,
        "features": FEATURES,
        "methods": found,
    }


def main() -> None:
    options_of = parser(__doc__, rounds=3)
    options_of.set_defaults(threads=1)
    options_of.add_argument("command", nargs="?", choices=("speed", "growth"))
    options_of.add_argument("--n", type=int, default=2_000, help="rows of each domain, for speed")
    options_of.add_argument("--methods", nargs="+", help="only these, for speed; writes nothing")
    options_of.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="for growth")
    options_of.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = options_of.parse_args()
    # What either has not solved to the end is told in the table where it matters.
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(options.threads):
        if options.measure:
            print(json.dumps(measure(options.measure[0], int(options.measure[1]))))
            return
        if options.command is None:
            options_of.error("say what to measure: speed or growth")
        if options.quick:
            options.n, options.sizes, options.rounds = 200, [200, 400], 1
        result = {"speed": speed, "growth": growth}[options.command](options)
    if not options.quick and not options.methods:
        write_result(f"domain_{options.command}", result)


if __name__ == "__main__":
    main()
