"""The base of the fine-tuned classifier and regressor: a network and its head, end to end."""

import numbers
import threading
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sktransfer import persistence
from sktransfer._columns import errors_about
from sktransfer._pairs import labels_of
from sktransfer.finetuning.continuing import continue_training, rebuild
from sktransfer.finetuning.fitting import FitResult, fit_on_labels
from sktransfer.finetuning.network import LinearHead
from sktransfer.finetuning.outputs import Outputs
from sktransfer.finetuning.resolving import seed_of
from sktransfer.finetuning.settings import same_setting
from sktransfer.finetuning.strategy import (
    FineTune,
    HasStrategy,
    check_strategy,
    is_frozen,
    with_rate,
)
from sktransfer.finetuning.targets import Targets, encode_targets
from sktransfer.finetuning.tuned import Tuned, raise_interrupt
from sktransfer.networks.torch_settings import usual_settings

_FIXED_BY_FIT = (
    "unfreeze", "tune", "rank", "optimizer", "weight_decay", "layer_decay", "loss", "focal_gamma",
    "label_smoothing", "penalty", "penalty_weight", "alignment", "alignment_weight", "batch_norm",
    "gradient_clip", "interpolate", "precision", "recompute_activations",
)  # fmt: skip
"""Parameters of a strategy that must be the same in `partial_fit` as in `fit`."""


_REBUILDING = threading.Lock()


def _is_tuned(estimator: Any) -> bool:
    """Whether there is a network to train further; else there is no `partial_fit`."""
    if is_frozen(estimator.strategy):
        raise AttributeError(
            "strategy='frozen' trains nothing that partial_fit could go on with; give "
            f"{type(estimator).__name__} a FineTune"
        )
    return True


class FineTuned(HasStrategy):
    """Base of the fine-tuned estimators; subclasses turn scores into predictions."""

    __metadata_request__fit: ClassVar = {"sample_domain": True}

    _task: str | None

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

    def fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, sample_domain: Any = None
    ) -> Self:
        """Fine-tune the network and its head.

        An interrupt (Ctrl-C) ends the training and is raised again, but only after the estimator
        has been made ready with what was learned up to then.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `features` takes.
        y : array-like of shape (n,) or (n, n_outputs), or None, default=None
            May be left out if X is a torch Dataset whose items are tuples (sample, label).
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
        row_metadata = {"sample_weight": sample_weight, "sample_domain": sample_domain}
        with errors_about(X):
            fitted = self._fit(X, y, strategy, None, row_metadata)
        raise_interrupt(fitted.tuned)
        return self

    @available_if(_is_tuned)  # type: ignore[untyped-decorator]
    @usual_settings()
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, *, sample_weight: Any = None
    ) -> Self:
        """Continue training for one epoch of these rows, at a rate that rises to `learning_rate`.

        After unpickling the optimizer begins anew, and penalties that need the source network
        are left out.

        Parameters
        ----------
        X : Any
            n samples in any of the forms that `features` takes.
        y : array-like of shape (n,) or (n, n_outputs), or None, default=None
            As for `fit`.
        classes : array-like or None, default=None
            All that may ever occur in y; needed in the first call of a classifier, unless y
            holds them all.
        sample_weight : array-like of shape (n,) or None, default=None

        Returns
        -------
        self : object
        """
        strategy = self._checked()
        row_metadata = {"sample_weight": sample_weight}
        if not hasattr(self, "features_"):
            first = clone(strategy).set_params(
                epochs=1,
                schedule="constant",
                early_stopping=False,
                guard=False,
                warmup_epochs=0,
                gradual=None,
                checkpoint=None,
                scoring=None,
            )
            raise_interrupt(self._fit(X, y, first, classes, row_metadata).tuned)
            return self
        self._check_unchanged(strategy, classes)
        tuned = self._tuned
        if isinstance(strategy.learning_rate, str):  # "find", as it was found at first
            strategy = with_rate(strategy, tuned.learning_rate)
        targets = self._encoded(X, y, strategy, row_metadata)
        source = self.features_.__tuning_source__()
        tunable = source.tunable(X, body=tuned.network.body)
        inputs, readable = tunable.inputs(tuned.trained, strategy)
        targets.weights[~readable] = 0
        seed = seed_of(strategy, self.random_state) + len(tuned.net.history)
        continue_training(tuned, inputs, targets, strategy, seed)
        source.commit(tuned)
        self._see_more(targets)
        self._set_head(tuned.head)
        raise_interrupt(tuned)
        return self

    def _check_unchanged(self, strategy: FineTune, classes: Any) -> None:
        """Check that `partial_fit` has the settings and classes of the first fit."""
        for name, was in self._settings_of_fit.items():
            value = getattr(strategy, name)
            if not same_setting(was, value):
                raise ValueError(
                    f"partial_fit goes on as it began: {name} was {was!r} and is {value!r} now; "
                    "set it back, or call fit"
                )
        known: Any = getattr(self, "classes_", None)
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(f"classes must be those of the first call, {known}, got {classes!r}")

    def _encoded(self, X: Any, y: Any, strategy: FineTune, row_metadata: dict[str, Any]) -> Targets:
        """Targets on the scale, or of the classes, of the first fit."""
        targets = encode_targets(
            labels_of(X) if y is None else y,
            n_rows=self.features_.__tuning_source__().n_rows(X),
            task=self._task,
            classes=None if self._fitted_task == "multilabel" else getattr(self, "classes_", None),
            location=self._location,
            class_weight=strategy.class_weight,
            outputs=self._n_outputs,
            **row_metadata,
        )
        if targets.task != self._fitted_task:
            raise ValueError(
                f"y is for {targets.task}, and this {type(self).__name__} was fitted for "
                f"{self._fitted_task}"
            )
        return targets

    def _fit(
        self, X: Any, y: Any, strategy: Any, classes: Any, row_metadata: dict[str, Any]
    ) -> FitResult:
        seed = seed_of(strategy if not is_frozen(strategy) else FineTune(), self.random_state)
        features = clone(self.features).set_params(strategy=strategy)
        if features.random_state is None:
            features.set_params(random_state=seed)
        start = None if self.start_from is None else _fitted(self.start_from)
        fitted = fit_on_labels(
            features,
            X,
            y,
            task=self._task,
            classes=classes,
            seed=seed,
            start=start,
            verbose=self.verbose,
            check_targets=self._check_targets,
            **row_metadata,
        )
        self._set_fitted(features, fitted)
        return fitted

    def _set_fitted(self, features: Any, fitted: FitResult) -> None:
        """Set the fitted attributes, of a tuned network or of a head on frozen features."""
        targets: Targets = fitted.targets
        self.__dict__.pop("ingredients_", None)  # of an earlier soup
        self.features_ = features
        self._fitted_task = targets.task
        self._location = targets.location
        self._flat = targets.flat
        tuning = features.strategy
        names = () if is_frozen(tuning) else _FIXED_BY_FIT
        # Copies: a change of the strategy after the fit is to be noticed.
        self._settings_of_fit = {n: clone(getattr(tuning, n), safe=False) for n in names}
        self._view_seed = seed_of(FineTune(), self.random_state)
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
        self._see_targets(targets)
        self._set_head(fitted.head)

    def _check_targets(self, targets: Targets) -> None:
        """Check parameters of subclasses that depend on the targets of `fit`."""

    def _see_targets(self, targets: Targets) -> None:
        """Set what subclasses learn from the targets of `fit` beside the head."""

    def _see_more(self, targets: Targets) -> None:
        """Update it by the targets of a later `partial_fit`."""

    def _set_head(self, head: LinearHead) -> None:
        """Set the head as plain arrays, for raw features and in the units of y."""
        self._head = {name: t.detach().cpu().numpy() for name, t in head.state_dict().items()}
        coef = head.weight.detach().double().cpu().numpy() / self._head["scale"]
        intercept = self._head["bias"] - coef @ self._head["mean"].astype(np.float64)
        if self._location is not None:
            mean, scale = self._location
            coef, intercept = coef * scale[:, None], intercept * scale + mean
        self.coef_, self.intercept_ = coef, intercept

    # --- prediction -----------------------------------------------------------------------

    @usual_settings()
    def _scores(self, X: Any) -> np.ndarray:
        """Outputs of the head, (n, n_outputs)."""
        check_is_fitted(self)
        change = self.test_time_augmentation
        if change is None:
            return self._head_scores(np.asarray(self.features_.transform(X)))
        strategy = self.features_.strategy
        if is_frozen(strategy) or strategy.augment is None:
            strategy = FineTune(augment="light")
        source = self.features_.__tuning_source__()
        views = source.augmented(X, change, strategy, self._view_seed)
        return np.mean([self._head_scores(view) for view in views], axis=0)

    def _head_scores(self, features: np.ndarray) -> np.ndarray:
        """Outputs of the head for features, (n, n_features), of a single view."""
        return features @ self.coef_.T + self.intercept_

    # --- fitted attributes ----------------------------------------------------------------

    @property
    @usual_settings()
    def _tuned(self) -> Tuned:
        with _REBUILDING:
            return self._rebuilt()

    def _rebuilt(self) -> Tuned:
        if self._tuned_cache is None:
            if self._trained_names == () and is_frozen(self.features_.strategy):
                raise AttributeError(
                    "it was fitted with strategy='frozen', which trains no network, so there is no "
                    "net_ to go on with; call fit"
                )
            self._tuned_cache = rebuild(
                self.features_.__tuning_source__().body(),
                self._head,
                self._trained_names,
                with_rate(self.features_.strategy, self.learning_rate_),
                Outputs(
                    self._fitted_task, getattr(self, "classes_", None), self._location, self._flat
                ),
                self.features_.device_,
                self.features_.history_,
                self.features_.fitted_.ends,
                self.features_.fitted_.interpolate,
                # Numbers have none, and neither have files of older versions.
                getattr(self, "class_prior_", None),
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
    def interpolate_(self) -> float:
        """Where the weights lie between the source (0) and the tuned network (1).

        Only with ``interpolate=``.
        """
        check_is_fitted(self)
        return float(self.features_.interpolate_)

    @property
    def learning_rate_(self) -> float:
        """Peak learning rate of the training."""
        check_is_fitted(self)
        return self.features_.learning_rate_

    @property
    def rate_curve_(self) -> dict[str, np.ndarray]:
        """Arrays "rate", "loss" and "smoothed_loss" of the steps of ``learning_rate="find"``."""
        check_is_fitted(self)
        return self.features_.rate_curve_

    @property
    def trained_parameters_(self) -> tuple[str, ...]:
        """Names of the network's weights that were trained."""
        check_is_fitted(self)
        return self.features_.trained_parameters_

    @property
    def n_trained_parameters_(self) -> int:
        """Number of trained parameters, including those of the head."""
        check_is_fitted(self)
        return max(self.features_.n_trained_parameters_, self.coef_.size + self.intercept_.size)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "features_")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        if "_tuned_cache" in state:
            state["_tuned_cache"] = None  # `_tuned` rebuilds it
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
        if isinstance(self.features, type) or not hasattr(self.features, "__tuning_source__"):
            raise TypeError(
                "features must be a transformer that can be tuned, such as "
                "PretrainedCNNFeatures(), PretrainedTextFeatures() or RNNSequenceFeatures(), got "
                f"{self.features!r}"
            )
        if not is_frozen(self.features.strategy):
            raise ValueError(
                f"give the strategy to {type(self).__name__}(..., strategy=...), not to its "
                "features, whose own must be 'frozen'"
            )
        if getattr(self.features, "cross_fit", None) is not None:
            raise ValueError(
                f"cross_fit={self.features.cross_fit!r} is for a head behind `fit_transform` of "
                f"the features; {type(self).__name__} trains its own with the network: set it to "
                "None"
            )
        views: Any = self.test_time_augmentation
        known = views is None or (isinstance(views, str) and views == "flip")
        counted = type(views) is not bool and isinstance(views, numbers.Integral)
        if not known and not (counted and views > 0):
            raise ValueError(
                "test_time_augmentation must be None, 'flip' or a positive number of views, got "
                f"{views!r}"
            )
        source = self.features.__tuning_source__()
        if (isinstance(views, str) and not source.mirrors) or (views and not source.augments):
            kinds = "images" if isinstance(views, str) else "images and series"
            cure = "a number of views" if source.augments else "None"
            raise ValueError(
                f"test_time_augmentation={views!r} changes {kinds}, and "
                f"{type(self.features).__name__} reads others; set it to {cure}"
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
    if not hasattr(inner, "__tuning_source__") or not hasattr(inner, "module_"):
        raise ValueError(
            "start_from must be a fitted FineTunedClassifier, FineTunedRegressor or feature "
            "transformer; clone() and searches unfit it unless it is wrapped in "
            f"sklearn.frozen.FrozenEstimator. Got {start_from!r}"
        )
    return start
