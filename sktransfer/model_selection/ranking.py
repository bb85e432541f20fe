"""Ranking of networks by a transferability metric of their features, without training."""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.preprocessing import scale
from sklearn.utils.multiclass import type_of_target
from tqdm.auto import tqdm

from sktransfer._validation import as_array, row_count
from sktransfer.metrics import h_score, logme, transrate
from sktransfer.store import FeatureStore

if TYPE_CHECKING:
    from sktransfer.features import PretrainedCNNFeatures

Metric = Callable[[np.ndarray, np.ndarray], float]


def _logme(features: np.ndarray, y: Any) -> float:
    """LogME of standardised features, as otherwise their scale affects the score most."""
    if type_of_target(y).startswith("continuous"):
        y = np.asarray(y) - np.mean(y, axis=0)  # LogME has no intercept, and the features mean 0
    return logme(scale(features.astype(np.float64)), y)


_METRICS: dict[str, Metric] = {"logme": _logme, "h_score": h_score, "transrate": transrate}


class RankedBackbone(NamedTuple):
    """Score and costs of one backbone.

    Parameters
    ----------
    backbone : str
        Name of the candidate.
    score : float
        Value of the metric; NaN if the candidate failed.
    seconds : float
        Time to load the network and extract the features.
    n_features : int
        Number of features; 0 if the candidate failed.
    n_forward : int
        Number of images that went through the network; cached ones do not count. -1 if the
        transformer does not count them.
    error : str
        Message of the error if the candidate failed, else empty.

    Examples
    --------
    >>> from sktransfer.model_selection import RankedBackbone
    >>> RankedBackbone("resnet18", 0.5, 2.0, 512, 100).n_features
    512
    """

    backbone: str
    score: float
    seconds: float
    n_features: int
    n_forward: int
    error: str = ""


class BackboneRanking(list[RankedBackbone]):
    """Backbones, the best first, failed ones last.

    A list of `RankedBackbone`, in which ``ranking[0].backbone`` is best.
    ``pandas.DataFrame(ranking)`` has its columns, and ``print(ranking)`` shows it as a table.

    Parameters
    ----------
    iterable : iterable of RankedBackbone

    Examples
    --------
    >>> from sktransfer.model_selection import BackboneRanking, RankedBackbone
    >>> print(BackboneRanking([RankedBackbone("resnet18", 0.5, 2.0, 512, 100)]))
    backbone   score  seconds  features  passes
    resnet18  0.5000     2.00       512     100
    """

    def __str__(self) -> str:
        head = ("backbone", "score", "seconds", "features", "passes")
        cells = [
            (
                row.backbone,
                f"{row.score:.4f}",
                f"{row.seconds:.2f}",
                str(row.n_features),
                str(row.n_forward) if row.n_forward >= 0 else "",
            )
            for row in self
        ]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        lines = []
        for line, error in zip([head, *cells], ["", *(row.error for row in self)], strict=True):
            name, *numbers = line
            text = "  ".join(
                [
                    name.ljust(widths[0]),
                    *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True)),
                ]
            )
            reason = " ".join(error.split())
            lines.append(f"{text}  {reason}" if reason else text.rstrip())
        return "\n".join(lines)


def rank_backbones(
    backbones: Iterable[Any] | Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    metric: str | Metric = "logme",
    features: "PretrainedCNNFeatures | None" = None,
    cache: str | Path | FeatureStore | None = None,
    verbose: bool | int = False,
) -> BackboneRanking:
    """Rank networks, or layers of them, by how well their features suit labels.

    Each network processes the images once, and none is trained: the metric scores its features as
    they are. Confirm the ranking by a search over the best few, with a real head.

    Parameters
    ----------
    backbones : iterable or mapping of str to candidates
        Each candidate is a value for ``PretrainedCNNFeatures(backbone=...)`` - a name, or a custom
        network as a class, function or instance - or a transformer, such as
        ``PretrainedCNNFeatures(layer="blocks.3")``, an `RNNSequenceFeatures` or a pipeline, which
        is cloned. The keys of a mapping are the names in the result.
    X : Any
        Samples, such as images, in any form that `features` or the transformers accept.
    y : array-like of shape (n_samples,)
        Classes, or numbers if the metric accepts them.
    metric : {"logme", "h_score", "transrate"} or callable, default="logme"
        A function of `sktransfer.metrics`, with "logme" on standardised features; or a function of
        features, of shape (n_samples, n_features), and y that returns a number, higher for better.
        "h_score" and "transrate" favour wide features, and are for networks of similar width.
    features : PretrainedCNNFeatures or None, default=None
        Its other parameters (``image_size=32``, ``layer=-2``) apply to all candidates that are not
        transformers. None takes the defaults.
    cache : str, Path, FeatureStore or None, default=None
        Feature store for all candidates whose parameter ``cache`` is None. One pass fills it for
        every stage of a network, so that ranking its layers, or a later search, needs no other.
    verbose : bool or int, default=False
        Show a progress bar.

    Returns
    -------
    BackboneRanking
        A list with a row (backbone, score, seconds, n_features, n_forward, error) for each, the
        best first.

    Raises
    ------
    ValueError
        `metric` is not known, there are no candidates, X and y differ in length, or all candidates
        failed.

    Warns
    -----
    FitFailedWarning
        A candidate failed, for example because its weights are missing. It comes last, with a
        score of NaN and the error's message; the others are ranked.

    Notes
    -----
    Scores are estimates from untuned features. They compare candidates on the same rows, but not
    across data sets; if numbers of features differ much, or rows are few, use more than one metric.
    They do not predict the effect of fine-tuning. Rows of NaN (images that could not be read, with
    ``on_error="nan"``) are left out.

    References
    ----------
    .. [1] K. You, Y. Liu, J. Wang and M. Long, "LogME: practical assessment of pre-trained models
       for transfer learning", ICML 2021.
    .. [2] Y. Bao et al., "An information-theoretic approach to transferability in task transfer
       learning", ICIP 2019, definition 2 (H-score).
    .. [3] L.-K. Huang et al., "Frustratingly easy transferability estimation", ICML 2022
       (TransRate).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import PretrainedCNNFeatures
    >>> from sktransfer.model_selection import rank_backbones
    >>> digits = load_digits()
    >>> ranking = rank_backbones(
    ...     {
    ...         "a middle layer": PretrainedCNNFeatures(layer="blocks.3", image_size=32),
    ...         "the last layer": PretrainedCNNFeatures(image_size=32),
    ...     },
    ...     digits.images[:200] / 16,
    ...     digits.target[:200],
    ... )
    >>> ranking[0].backbone
    'a middle layer'
    >>> print(ranking)
    backbone        score  seconds  features  passes
    a middle layer ...           80     200
    the last layer ...         1280     200
    """
    from sktransfer.features import PretrainedCNNFeatures  # needs torch, which splitters do not

    score = _metric(metric)
    template = PretrainedCNNFeatures() if features is None else features
    if not isinstance(template, PretrainedCNNFeatures):
        raise TypeError(
            f"features must be a PretrainedCNNFeatures or None, got {features!r}; pass other "
            "transformers in backbones"
        )
    named = _named(backbones)
    if y is None:
        raise ValueError("rank_backbones needs labels y, by which features are scored; got None")
    y = as_array(y)
    if row_count(X) != len(y):
        raise ValueError(f"X has {row_count(X)} rows and y has {len(y)}; they must be equal")
    rows, reasons = [], []
    with tqdm(named, desc="ranking", unit="backbone", disable=not verbose) as bar:
        for name, candidate in bar:
            bar.set_postfix_str(name)
            start = time.perf_counter()
            try:
                transformer = _transformer(candidate, template, cache)
                Z = np.asarray(transformer.fit_transform(X, y))
                seconds = time.perf_counter() - start
                read = ~np.isnan(Z).any(axis=1)
                value = float(score(Z[read], y[read]))
                if math.isnan(value):
                    raise ValueError("the metric returned NaN")
            except Exception as error:  # one candidate must not prevent the ranking of others
                seconds = time.perf_counter() - start
                text = f"{type(error).__name__}: {error}"
                rows.append(RankedBackbone(name, math.nan, seconds, 0, 0, text))
                reasons.append(error)
                continue
            n_forward = _count_forward(transformer)
            rows.append(RankedBackbone(name, value, seconds, Z.shape[1], n_forward))
    failed = [row for row in rows if row.error]
    if len(failed) == len(rows):
        raise ValueError(
            f"all {len(rows)} backbones failed; the first, {failed[0].backbone}: {failed[0].error}"
        ) from reasons[0]
    for row in failed:
        warnings.warn(
            f"backbone {row.backbone} failed and is left unranked: {row.error}",
            FitFailedWarning,
            stacklevel=2,
        )
    ranked = [row for row in rows if not row.error]
    return BackboneRanking([*sorted(ranked, key=lambda row: -row.score), *failed])


def _metric(metric: Any) -> Metric:
    if callable(metric):
        return metric
    if not isinstance(metric, str) or metric not in _METRICS:
        raise ValueError(
            f"metric must be one of {tuple(_METRICS)} or a function of features and y, got "
            f"{metric!r}"
        )
    return _METRICS[metric]


def _named(backbones: Any) -> list[tuple[str, Any]]:
    """Names and candidates, in the order given."""
    if isinstance(backbones, str):
        raise TypeError(
            f"backbones must be a list or a mapping, got {backbones!r}; pass [{backbones!r}]"
        )
    if isinstance(backbones, Mapping):
        named = [(str(name), candidate) for name, candidate in backbones.items()]
    else:
        named = [(_name(candidate), candidate) for candidate in backbones]
    if not named:
        raise ValueError("backbones is empty; see sktransfer.list_backbones for names")
    return named


def _name(candidate: Any) -> str:
    if isinstance(candidate, str):
        return candidate
    if _is_transformer(candidate):
        return " ".join(repr(candidate).split())
    return getattr(candidate, "__name__", type(candidate).__name__)


def _is_transformer(candidate: Any) -> bool:
    return not isinstance(candidate, type) and hasattr(candidate, "fit_transform")


def _transformer(candidate: Any, template: "PretrainedCNNFeatures", cache: Any) -> Any:
    """A transformer to fit, which shares nothing with the caller's."""
    if _is_transformer(candidate):
        transformer = clone(candidate)
    else:
        transformer = clone(template).set_params(backbone=candidate)
    if cache is not None:
        for name, value in transformer.get_params().items():  # of the steps of a pipeline, too
            if name.split("__")[-1] == "cache" and value is None:
                transformer.set_params(**{name: cache})
    return transformer


def _count_forward(transformer: Any) -> int:
    """Images that went through the networks of a transformer or pipeline; -1 if none counts."""
    parts = [transformer, *(step for _, step in getattr(transformer, "steps", ()))]
    counts = [part.n_forward_ for part in parts if hasattr(part, "n_forward_")]
    return int(sum(counts)) if counts else -1
