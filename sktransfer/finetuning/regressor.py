"""A regressor that fine-tunes a network and its head end to end."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from sktransfer.finetuning.estimator import FineTuned
from sktransfer.finetuning.targets import Targets

_MARGIN = 0.5
"""Margin of the bounds on either side, as a share of the range of y."""


class FineTunedRegressor(RegressorMixin, FineTuned):
    """A pretrained network, fine-tuned as a regressor end to end.

    Targets are standardised for training; predictions are in the units of y, and bounded: a linear
    head has no limits, and a row of features unlike those of all training rows could otherwise be
    predicted to be thousands of deviations away. Bounds that hold the true value make no error
    larger.

    Parameters
    ----------
    features : PretrainedCNNFeatures or RNNSequenceFeatures
        The network, its layer and its preprocessing. A clone is fitted.
    strategy : FineTune, "frozen" or None, default=None
        How to tune; None is ``FineTune()``. "frozen" fits ridge regression to the features of the
        untuned network.
    start_from : fitted estimator or None, default=None
        As for `FineTunedClassifier`.
    test_time_augmentation : "flip", int or None, default=None
        As for `FineTunedClassifier`.
    random_state : int, RandomState instance or None, default=None
        Seed of the training, unless the strategy has its own.
    verbose : bool, default=False
        Show a progress bar over epochs.

    Attributes
    ----------
    features_ : transformer
        Fitted, with the tuned network.
    coef_ : ndarray of shape (n_outputs, n_features), float64
        Weights of the head for the features that `features_` returns.
    intercept_ : ndarray of shape (n_outputs,), float64
    prediction_bounds_ : ndarray of shape (2, n_outputs), float64
        Least and largest prediction of each output: those of y in training, and half of their
        distance beyond either. `partial_fit` moves them apart if its y goes further.
    net_ : skorch.NeuralNet
    history_ : list of dict
    trained_parameters_ : tuple of str
    n_trained_parameters_ : int

    See Also
    --------
    FineTunedClassifier : The same for classes.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import FineTune, FineTunedRegressor, RNNSequenceFeatures
    >>> rng = np.random.default_rng(0)
    >>> frequency = rng.uniform(1, 5, 60)
    >>> X = np.sin(frequency[:, None] * np.linspace(0, 6, 60) + rng.uniform(0, 6, (60, 1)))
    >>> regressor = FineTunedRegressor(
    ...     RNNSequenceFeatures(views="z"), strategy=FineTune("all", epochs=3), random_state=0
    ... )
    >>> bool(regressor.fit(X[:45], frequency[:45]).score(X[45:], frequency[45:]) > 0.8)
    True
    """

    _task = "regression"

    def predict(self, X: Any) -> np.ndarray:
        """Predict numbers.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `features` takes.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs), float64
            A sample that could not be read (``on_error="nan"``) has NaN.
        """
        scores = self._scores(X)
        return scores[:, 0] if self._flat else scores

    def _head_scores(self, features: np.ndarray) -> np.ndarray:
        scores = super()._head_scores(features)
        bounds: Any = getattr(self, "prediction_bounds_", None)
        # Estimators from files of older versions have no bounds.
        return scores if bounds is None else np.clip(scores, *bounds)

    def _see_targets(self, targets: Targets) -> None:
        self._range = _range_of(targets)
        self._set_bounds()

    def _see_more(self, targets: Targets) -> None:
        (low, high), (lower, higher) = self._range, _range_of(targets)
        self._range = np.stack([np.minimum(low, lower), np.maximum(high, higher)])
        self._set_bounds()

    def _set_bounds(self) -> None:
        margin = _MARGIN * np.diff(self._range, axis=0)
        self.prediction_bounds_ = self._range + np.concatenate([-margin, margin])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _range_of(targets: Targets) -> np.ndarray:
    """Least and largest y of the rows that count, (2, n_outputs)."""
    assert targets.location is not None
    mean, scale = targets.location
    values = targets.values[targets.weights > 0].astype(np.float64) * scale + mean
    return np.stack([values.min(axis=0), values.max(axis=0)])
