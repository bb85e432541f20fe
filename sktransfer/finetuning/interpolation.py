"""Fitted estimators at other points between their source network and their tuned one."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from sklearn.metrics import check_scoring

from sktransfer.finetuning.averaging import HEAD, Ends, interpolated_array
from sktransfer.finetuning.network import LinearHead
from sktransfer.finetuning.strategy import check_alpha
from sktransfer.networks.torch_settings import usual_settings


@usual_settings()
def interpolate_weights(estimator: Any, alpha: float) -> Any:
    """A fitted estimator between its source network and its tuned one, without training.

    Body and head are ``(1 - alpha) * source + alpha * tuned``, equation 1 of [1]_.

    Parameters
    ----------
    estimator : FineTunedClassifier, FineTunedRegressor or feature transformer, fitted
        With a strategy that has ``interpolate=``, any number of which keeps both ends.
    alpha : float
        From 0, the source network with its initial head, to 1, the tuned network. Both are exact.

    Returns
    -------
    estimator
        A copy, whose strategy has ``interpolate=alpha``.

    Raises
    ------
    ValueError
        The estimator does not hold both ends, or `alpha` is out of its range.

    See Also
    --------
    interpolation_scores : Several points in a cross-validation, for one training a fold.

    References
    ----------
    .. [1] M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import (
    ...     FineTune, FineTunedClassifier, PretrainedCNNFeatures, interpolate_weights,
    ... )
    >>> digits = load_digits()
    >>> images, labels = digits.images[:150] / 16, digits.target[:150]
    >>> tuned = FineTunedClassifier(
    ...     PretrainedCNNFeatures(layer="blocks.3", image_size=32),
    ...     strategy=FineTune(epochs=2, interpolate=1.0),
    ...     random_state=0,
    ... ).fit(images[:100], labels[:100])
    >>> halfway = interpolate_weights(tuned, 0.5)
    >>> halfway.interpolate_, halfway.predict_proba(images[100:]).shape
    (0.5, (50, 10))
    """
    check_alpha(alpha, "alpha")
    alpha = float(alpha)
    features = getattr(estimator, "features_", estimator)
    ends = getattr(getattr(features, "fitted_", None), "ends", None)
    if ends is None:
        raise ValueError(
            "estimator must be a fitted FineTunedClassifier, FineTunedRegressor or feature "
            "transformer that was tuned with FineTune(interpolate=...), as others keep the tuned "
            "weights alone; set interpolate=1.0 and fit it. Of a pipeline pass the step. Got "
            f"{estimator!r}"
        )
    return between(estimator, ends, alpha)


def between(estimator: Any, ends: Ends, alpha: float) -> Any:
    """A copy of a fitted estimator, with weights between the ends given."""
    moved = copy.deepcopy(estimator)
    inner = getattr(moved, "features_", moved)
    inner.__tuning_source__().interpolate(ends, alpha)
    inner.strategy.interpolate = alpha
    if inner is not moved:
        moved.strategy.interpolate = alpha
        moved._settings_of_fit["interpolate"] = alpha
        values = {
            name.removeprefix(HEAD): interpolated_array(source, tuned, alpha)
            for name, (source, tuned) in ends.items()
            if name.startswith(HEAD)
        }
        moved._set_head(LinearHead.from_state({**moved._head, **values}))
    return moved


def interpolation_scores(
    alphas: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0), scoring: Any = None
) -> Callable[..., dict[str, float]]:
    """A scorer of several points between source and tuned network, for `cross_validate`.

    A search over ``strategy__interpolate`` trains anew for each value. This scorer judges all
    values by one training per fold and a pass over the test rows per value.

    Parameters
    ----------
    alphas : sequence of float, default=(0, 0.25, 0.5, 0.75, 1)
    scoring : str, callable or None, default=None
        As in scikit-learn; None is the estimator's own `score`.

    Returns
    -------
    callable
        For ``scoring=`` of ``cross_validate`` and of searches. Its scores are named "alpha=0.5"
        and the like.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_validate
    >>> from sktransfer import (
    ...     FineTune, FineTunedClassifier, PretrainedCNNFeatures, interpolation_scores,
    ... )
    >>> digits = load_digits()
    >>> classifier = FineTunedClassifier(
    ...     PretrainedCNNFeatures(layer="blocks.3", image_size=32),
    ...     strategy=FineTune(epochs=2, interpolate=1.0),
    ...     random_state=0,
    ... )
    >>> scoring = interpolation_scores((0, 0.5, 1), "neg_log_loss")
    >>> scores = cross_validate(
    ...     classifier, digits.images[:100] / 16, digits.target[:100], scoring=scoring, cv=2
    ... )
    >>> [name for name in scores if name.startswith("test")]
    ['test_alpha=0', 'test_alpha=0.5', 'test_alpha=1']
    """
    for alpha in alphas:
        check_alpha(alpha, "each of alphas")
    return _InterpolationScores(tuple(alphas), scoring)


class _InterpolationScores:
    """What `interpolation_scores` gives, as a class, which processes can send to each other."""

    def __init__(self, alphas: tuple[float, ...], scoring: Any) -> None:
        self.alphas = alphas
        self.scoring = scoring

    def __call__(self, estimator: Any, X: Any, y: Any, **kwargs: Any) -> dict[str, float]:
        score = check_scoring(estimator, scoring=self.scoring)
        return {
            f"alpha={alpha:g}": score(interpolate_weights(estimator, alpha), X, y, **kwargs)
            for alpha in self.alphas
        }
