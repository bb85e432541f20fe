"""A network and its head as one classifier or regressor, tuned end to end."""

import numbers
from typing import Any, Self

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sktransfer import persistence
from sktransfer.finetuning.network import Head
from sktransfer.finetuning.strategy import FineTune, check_strategy, is_frozen
from sktransfer.finetuning.targets import Targets, encode_targets
from sktransfer.finetuning.training import Tuned, go_on, raise_interrupt, rebuild, seed_of


def _is_tuned(estimator: Any) -> bool:
    """Whether there is anything to go on with; else `partial_fit` is not there."""
    if is_frozen(estimator.strategy):
        raise AttributeError(
            "strategy='frozen' trains nothing that partial_fit could go on with; give "
            f"{type(estimator).__name__} a FineTune"
        )
    return True


class _FineTuned(BaseEstimator):
    """What classifier and regressor share."""

    features: Any
    strategy: Any
    start_from: Any
    test_time_augmentation: Any
    random_state: Any
    verbose: Any
    _task: str | None

    def fit(self, X: Any, y: Any, *, sample_weight: Any = None, sample_domain: Any = None) -> Self:
        """Fine-tune the network and its head.

        An interrupt (Ctrl-C) ends the training and is raised again, but only after the estimator
        has been made ready with what was learned up to then.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `features` takes.
        y : array-like of shape (n,) or (n, n_outputs)
        sample_weight : array-like of shape (n,) or None, default=None
        sample_domain : array-like of shape (n,) or None, default=None
            For a strategy with `alignment`: positive in source rows, negative in target rows,
            whose y is not used.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            A parameter is out of its range, or y holds NaN, a single class, or other rows than X.
        """
        strategy = self._checked()
        of_rows = {"sample_weight": sample_weight, "sample_domain": sample_domain}
        fitted = self._fit(X, y, strategy, None, of_rows)
        raise_interrupt(fitted.tuned)
        return self

    @available_if(_is_tuned)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, *, sample_weight: Any = None
    ) -> Self:
        """Go on learning, for one epoch of these rows at a rate that rises to `learning_rate`.

        After unpickling the optimizer begins anew, and penalties that need the source network
        are left out.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `features` takes.
        y : array-like of shape (n,) or (n, n_outputs)
        classes : array-like or None, default=None
            All that may ever occur in y; needed in the first call of a classifier, unless y
            holds them all.
        sample_weight : array-like of shape (n,) or None, default=None

        Returns
        -------
        self : object
        """
        strategy = self._checked()
        of_rows = {"sample_weight": sample_weight}
        if not hasattr(self, "features_"):
            first = clone(strategy).set_params(
                epochs=1, schedule="constant", early_stopping=False, warmup_epochs=0
            )
            self._fit(X, y, first, classes, of_rows)
            return self
        targets = self._encoded(X, y, strategy, of_rows)
        tuned = self._tuned
        tunable = self.features_._tunable(X, body=tuned.network.body)
        inputs, readable = tunable.inputs(tuned.trained, strategy)
        targets.weights[~readable] = 0
        seed = seed_of(strategy, self.random_state) + len(tuned.net.history)
        go_on(tuned, inputs, targets, strategy, seed)
        self.features_._take(tuned)
        self._keep(tuned.head)
        return self

    def _encoded(self, X: Any, y: Any, strategy: FineTune, of_rows: dict[str, Any]) -> Targets:
        """Targets on the scale, or of the classes, of the first fit."""
        return encode_targets(
            y,
            n_rows=self.features_._count(X),
            task=self._fitted_task,
            classes=getattr(self, "classes_", None),
            location=self._location,
            class_weight=strategy.class_weight,
            **of_rows,
        )

    def _fit(self, X: Any, y: Any, strategy: Any, classes: Any, of_rows: dict[str, Any]) -> Any:
        seed = seed_of(strategy if not is_frozen(strategy) else FineTune(), self.random_state)
        features = clone(self.features).set_params(strategy=strategy)
        if features.random_state is None:
            features.set_params(random_state=seed)
        start = None if self.start_from is None else _fitted(self.start_from)
        fitted = features._fit(
            X,
            y,
            task=self._task,
            classes=classes,
            seed=seed,
            start=start,
            verbose=self.verbose,
            **of_rows,
        )
        self._take(features, fitted)
        return fitted

    def _take(self, features: Any, fitted: Any) -> None:
        """Become fitted, with a tuned network or with a head on frozen features."""
        targets: Targets = fitted.targets
        self.features_ = features
        self._fitted_task = targets.task
        self._location = targets.location
        self._flat = targets.flat
        self._n_outputs = targets.values.shape[1]
        self._trained_names = () if fitted.tuned is None else fitted.tuned.trained
        self._tuned_cache = fitted.tuned
        if targets.classes is not None:
            self.classes_ = targets.classes
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(features, name):
                setattr(self, name, getattr(features, name))
            elif hasattr(self, name):
                delattr(self, name)
        self._keep(fitted.head)

    def _keep(self, head: Head) -> None:
        """The head as plain arrays, on raw features and in the units of y."""
        self._head = {name: t.detach().cpu().numpy() for name, t in head.state_dict().items()}
        coef = head.weight.detach().double().cpu().numpy() / self._head["scale"]
        intercept = self._head["bias"] - coef @ self._head["mean"].astype(np.float64)
        if self._location is not None:
            mean, scale = self._location
            coef, intercept = coef * scale[:, None], intercept * scale + mean
        self.coef_, self.intercept_ = coef, intercept

    # --- prediction -----------------------------------------------------------------------

    def _scores(self, X: Any) -> np.ndarray:
        """Outputs of the head, (n, n_outputs)."""
        check_is_fitted(self)
        change = self.test_time_augmentation
        if change is None:
            return self.features_.transform(X) @ self.coef_.T + self.intercept_
        strategy = self.strategy if isinstance(self.strategy, FineTune) else FineTune()
        seed = seed_of(strategy, self.random_state)
        views = self.features_._augmented(X, change, strategy.augment or "light", seed)
        return np.mean([view @ self.coef_.T + self.intercept_ for view in views], axis=0)

    # --- what was fitted ------------------------------------------------------------------

    @property
    def _tuned(self) -> Tuned:
        if self._tuned_cache is None:
            if self._trained_names == () and is_frozen(self.features_.strategy):
                raise AttributeError("strategy='frozen' trains no network, so there is no net_")
            self._tuned_cache = rebuild(
                self.features_._body(self.features_.module_),
                self._head,
                self._trained_names,
                self.features_.strategy,
                self._fitted_task,
                self.features_.device_,
                self.features_.history_,
            )
        return self._tuned_cache

    @property
    def net_(self) -> Any:
        """The skorch net that ran the epochs; after unpickling, one without optimizer state."""
        check_is_fitted(self)
        return self._tuned.net

    @property
    def history_(self) -> list[dict[str, Any]]:
        """Losses and seconds of each epoch; empty for ``strategy="frozen"``."""
        check_is_fitted(self)
        return self.features_.history_

    @property
    def trained_parameters_(self) -> tuple[str, ...]:
        """Names of the network's weights that were trained."""
        check_is_fitted(self)
        return self.features_.trained_parameters_

    @property
    def n_trained_parameters_(self) -> int:
        """How many numbers were trained, those of the head included."""
        check_is_fitted(self)
        return max(self.features_.n_trained_parameters_, self.coef_.size + self.intercept_.size)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "features_")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        if "_tuned_cache" in state:
            state["_tuned_cache"] = None  # made again when it is asked for
        return state

    def save(self, path: Any) -> None:
        """Write the fitted estimator to a folder, as JSON and safetensors without any code.

        Parameters
        ----------
        path : str or Path
            See `sktransfer.persistence.save`, also for what cannot be saved so.
        """
        persistence.save(self, path)

    @classmethod
    def load(cls, path: Any) -> Self:
        """Read what `save` has written.

        Parameters
        ----------
        path : str or Path

        Raises
        ------
        ValueError
            The folder holds something else.
        """
        estimator = persistence.load(path)
        if not isinstance(estimator, cls):
            raise ValueError(f"{path} holds a {type(estimator).__name__}, not a {cls.__name__}")
        return estimator

    # --- checks ---------------------------------------------------------------------------

    def _checked(self) -> Any:
        strategy = FineTune() if self.strategy is None else self.strategy
        check_strategy(strategy)
        if not hasattr(self.features, "_tunable"):
            raise TypeError(
                "features must be a transformer that can be tuned, such as "
                f"PretrainedCNNFeatures() or RNNSequenceFeatures(), got {self.features!r}"
            )
        if not is_frozen(self.features.strategy):
            raise ValueError(
                f"give the strategy to {type(self).__name__}(..., strategy=...), not to its "
                "features, whose own must be 'frozen'"
            )
        views = self.test_time_augmentation
        known = views is None or (isinstance(views, str) and views == "flip")
        counted = type(views) is not bool and isinstance(views, numbers.Integral)
        if not known and not (counted and views > 0):
            raise ValueError(
                "test_time_augmentation must be None, 'flip' or a positive number of views, got "
                f"{views!r}"
            )
        check_random_state(self.random_state)
        return strategy

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.features).input_tags
        tags.target_tags.required = True
        tags.non_deterministic = False
        return tags


def _fitted(start_from: Any) -> Any:
    """The fitted transformer, and head if any, to start from."""
    start = getattr(start_from, "estimator", start_from)  # FrozenEstimator
    inner = getattr(start, "features_", start)
    if not hasattr(inner, "_tunable") or not hasattr(inner, "module_"):
        raise ValueError(
            "start_from must be a fitted FineTunedClassifier, FineTunedRegressor or feature "
            "transformer; clone() and searches unfit it unless it is wrapped in "
            f"sklearn.frozen.FrozenEstimator. Got {start_from!r}"
        )
    return start


class FineTunedClassifier(ClassifierMixin, _FineTuned):
    """A pretrained network, fine-tuned as a classifier from end to end.

    Parameters
    ----------
    features : PretrainedCNNFeatures or RNNSequenceFeatures
        The network, its layer and its preprocessing. A clone is fitted.
    strategy : FineTune, "frozen" or None, default=None
        How to tune; None is ``FineTune()``. "frozen" fits logistic regression to the
        features of the network as it is.
    start_from : fitted estimator or None, default=None
        A fitted `FineTunedClassifier`, `FineTunedRegressor` or feature transformer of the same
        network, whose weights training begins with; the head, too, if it has the same outputs.
        Wrap it in `sklearn.frozen.FrozenEstimator`, so that `clone` leaves it fitted.
    test_time_augmentation : "flip", int or None, default=None
        Average the scores of images and mirror images, or of each image and so many views that
        the strategy's `augment` makes of it ("light" if it has none).
    random_state : int, RandomState instance or None, default=None
        Of the training, unless the strategy has its own.
    verbose : bool, default=False
        Show a progress bar over epochs.

    Attributes
    ----------
    classes_ : ndarray
        Labels in the order of the columns of `predict_proba`; for an indicator matrix as y, the
        numbers of its columns.
    features_ : transformer
        Fitted, with the tuned network.
    coef_ : ndarray of shape (n_outputs, n_features), float64
        Of the head, on the features as `features_` gives them.
    intercept_ : ndarray of shape (n_outputs,), float64
    net_ : skorch.NeuralNet
        What ran the epochs: the network behind its cached trunk, and the head.
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
        start_from: Any = None,
        test_time_augmentation: str | int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.features = features
        self.strategy = strategy
        self.start_from = start_from
        self.test_time_augmentation = test_time_augmentation
        self.random_state = random_state
        self.verbose = verbose

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
        """Most probable class of each sample, or all labels more probable than not.

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
            A sample could not be read; there is no class for that.
        """
        scores = self._scores(X)
        unread = np.flatnonzero(np.isnan(scores).any(axis=1))
        if len(unread):
            raise ValueError(
                f"X[{unread[0]}] could not be read ({len(unread)} in all), so it has no class; "
                "drop these samples, or see predict_proba, which gives NaN for them"
            )
        if self._fitted_task == "multilabel":
            return (scores > 0).astype(np.int64)
        return self.classes_[scores.argmax(axis=1)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class FineTunedRegressor(RegressorMixin, _FineTuned):
    """A pretrained network, fine-tuned as a regressor from end to end.

    Targets are standardised for training; predictions are in their units.

    Parameters
    ----------
    features : PretrainedCNNFeatures or RNNSequenceFeatures
        The network, its layer and its preprocessing. A clone is fitted.
    strategy : FineTune, "frozen" or None, default=None
        How to tune; None is ``FineTune()``. "frozen" fits ridge regression to the features
        of the network as it is.
    start_from : fitted estimator or None, default=None
        As for `FineTunedClassifier`.
    test_time_augmentation : "flip", int or None, default=None
        As for `FineTunedClassifier`.
    random_state : int, RandomState instance or None, default=None
        Of the training, unless the strategy has its own.
    verbose : bool, default=False
        Show a progress bar over epochs.

    Attributes
    ----------
    features_ : transformer
        Fitted, with the tuned network.
    coef_ : ndarray of shape (n_outputs, n_features), float64
        Of the head, on the features as `features_` gives them.
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

    def __init__(
        self,
        features: Any,
        *,
        strategy: FineTune | str | None = None,
        start_from: Any = None,
        test_time_augmentation: str | int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.features = features
        self.strategy = strategy
        self.start_from = start_from
        self.test_time_augmentation = test_time_augmentation
        self.random_state = random_state
        self.verbose = verbose

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
