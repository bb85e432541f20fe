"""A classifier that fine-tunes a network and its head end to end."""

from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags

from sktransfer.finetuning.estimator import FineTuned
from sktransfer.finetuning.priors import check_prior, equal_prior, log_prior, row_prior
from sktransfer.finetuning.strategy import FineTune, is_frozen
from sktransfer.finetuning.targets import Targets


class FineTunedClassifier(ClassifierMixin, FineTuned):
    """A pretrained network, fine-tuned as a classifier end to end.

    Parameters
    ----------
    features : PretrainedCNNFeatures or RNNSequenceFeatures
        The network, its layer and its preprocessing. A clone is fitted.
    strategy : FineTune, "frozen" or None, default=None
        How to tune; None is ``FineTune()``. "frozen" fits logistic regression to the features of
        the untuned network.
    class_prior : "balanced", dict, array-like of shape (n_classes,) or None, default=None
        Shares of the classes where predictions are made, if they differ from those of the training
        rows (`class_prior_`): by Bayes' rule log(new share / training share) is added to the scores
        [1]_. "balanced" is equal shares, for which balanced accuracy is the accuracy. For several
        labels, the share of rows that have each, or a half. It may be changed without a new `fit`.
    start_from : fitted estimator or None, default=None
        A fitted `FineTunedClassifier`, `FineTunedRegressor` or feature transformer of the same
        network, whose weights training starts from; also its head, if it has the same outputs.
        Wrap it in `sklearn.frozen.FrozenEstimator`, so that `clone` leaves it fitted.
    test_time_augmentation : "flip", int or None, default=None
        "flip" averages the scores of images and their mirror images; a number averages those of
        each image or series and as many random views by the strategy's `augment` ("light" if it
        has none).
    random_state : int, RandomState instance or None, default=None
        Seed of the training, unless the strategy has its own.
    verbose : bool, default=False
        Show a progress bar over epochs.

    Attributes
    ----------
    classes_ : ndarray
        Labels in the order of the columns of `predict_proba`; for an indicator matrix as y, the
        numbers of its columns.
    class_prior_ : ndarray of shape (n_classes,), float64
        Shares of the classes as the training saw them, by the weights of the rows, `class_weight`
        and `sampler`; for several labels, the share of rows that have each. `partial_fit` keeps
        those of the first fit.
    features_ : transformer
        Fitted, with the tuned network.
    coef_ : ndarray of shape (n_outputs, n_features), float64
        Weights of the head for the features that `features_` returns.
    intercept_ : ndarray of shape (n_outputs,), float64
        Without what `class_prior` adds to it.
    net_ : skorch.NeuralNet
        The net that was trained: the part of the network after its cached trunk, and the head.
    history_ : list of dict
        "train_loss", "dur" (seconds) and with early stopping "valid_loss" of each epoch.
    trained_parameters_ : tuple of str
    n_trained_parameters_ : int
    n_features_in_ : int
        If X was a table.
    feature_names_in_ : ndarray of str
        If X was a DataFrame.

    See Also
    --------
    sktransfer.FineTune : Parameters of the strategy.
    FineTunedRegressor : The same for numbers.

    References
    ----------
    .. [1] M. Saerens, P. Latinne and C. Decaestecker, "Adjusting the outputs of a classifier to new
       a priori probabilities", Neural Computation 14, 2002, equation 2.4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures
    >>> digits = load_digits()
    >>> images, labels = digits.images[:200] / 16, digits.target[:200]
    >>> classifier = FineTunedClassifier(
    ...     PretrainedCNNFeatures(layer="blocks.3", image_size=32),
    ...     strategy=FineTune(unfreeze=1, epochs=3),
    ...     random_state=0,
    ... )
    >>> classifier.fit(images[:150], labels[:150]).predict_proba(images[150:]).shape
    (50, 10)
    >>> bool(classifier.score(images[150:], labels[150:]) > 0.8)
    True
    """

    _task = "classification"

    def __init__(
        self,
        features: Any,
        *,
        strategy: FineTune | str | None = None,
        class_prior: Any = None,
        start_from: Any = None,
        test_time_augmentation: str | int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            features,
            strategy=strategy,
            start_from=start_from,
            test_time_augmentation=test_time_augmentation,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_prior = class_prior

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `features` takes.

        Returns
        -------
        ndarray of shape (n, n_classes), or (n,) for two classes, float64
        """
        scores = self._scores(X)
        if self._fitted_task == "classification" and scores.shape[1] == 2:
            return scores[:, 1] - scores[:, 0]
        return scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes; of several labels, of each on its own.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `features` takes.

        Returns
        -------
        ndarray of shape (n, n_classes), float64
            A sample that could not be read (``on_error="nan"``) has a row of NaN.
        """
        scores = self._scores(X)
        if self._fitted_task == "multilabel":
            return expit(scores)
        return softmax(scores, axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of `predict_proba`, without its underflow.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `features` takes.

        Returns
        -------
        ndarray of shape (n, n_classes), float64
        """
        scores = self._scores(X)
        return log_expit(scores) if self._fitted_task == "multilabel" else log_softmax(scores, 1)

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each sample, or all labels of probability above a half.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `features` takes.

        Returns
        -------
        ndarray of shape (n,), or (n, n_labels), of 0 and 1

        Raises
        ------
        ValueError
            A sample could not be read, and so has no class.
        """
        scores = self._scores(X)
        unread = np.flatnonzero(np.isnan(scores).any(axis=1))
        if len(unread):
            raise ValueError(
                f"X[{unread[0]}] could not be read ({len(unread)} in all), so it has no class; "
                "drop these samples, or use predict_proba, which returns NaN for them"
            )
        if self._fitted_task == "multilabel":
            return (scores > 0).astype(np.int64)
        return self.classes_[scores.argmax(axis=1)]

    def _head_scores(self, features: np.ndarray) -> np.ndarray:
        return super()._head_scores(features) + self._prior_shift()

    def _prior_shift(self) -> np.ndarray:
        """What `class_prior` adds to the scores, (n_outputs,)."""
        if self.class_prior is None:
            return np.zeros(self._n_outputs)
        task, strategy = self._fitted_task, self.features_.strategy
        wanted = check_prior(self.class_prior, self.classes_, task)
        adjusted = not is_frozen(strategy) and strategy.loss == "logit-adjusted"
        learned = equal_prior(task, self._n_outputs) if adjusted else self.class_prior_
        return log_prior(wanted, task) - log_prior(learned, task)

    def _check_targets(self, targets: Targets) -> None:
        if self.class_prior is not None:
            assert targets.classes is not None
            check_prior(self.class_prior, targets.classes, targets.task)

    def _see_targets(self, targets: Targets) -> None:
        strategy = self.features_.strategy
        sampler = None if is_frozen(strategy) else strategy.sampler
        self.class_prior_ = row_prior(targets, sampler)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
