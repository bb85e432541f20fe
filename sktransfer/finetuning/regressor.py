"""A regressor that fine-tunes a network and its head end to end."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import Tags

from sktransfer.finetuning.estimator import FineTuned


class FineTunedRegressor(RegressorMixin, FineTuned):
    """A pretrained network, fine-tuned as a regressor end to end.

    Targets are standardised for training; predictions are in the units of y.

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

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
