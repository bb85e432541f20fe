"""Meta-estimators that combine a domain adaptation method with an estimator of scikit-learn."""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import config_context
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    RegressorMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags, assert_all_finite
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from sktransfer._validation import (
    Vector,
    checked_labels,
    checked_weights,
    labelled_mask,
    new_source_mask,
    source_mask,
)
from sktransfer.adaptation.alignment import CORAL

_CHECKS = {"classifier": is_classifier, "regressor": is_regressor}


def _estimator_has(name: str) -> Any:
    def check(self: Any) -> bool:
        estimator = getattr(self, "estimator_", None) or self._given_estimator()
        getattr(estimator, name)  # its AttributeError is more informative than ours
        return True

    return available_if(check)


class _Adapted(BaseEstimator, ABC):
    """A domain adaptation method, and an estimator that learns from its result."""

    _kind: ClassVar[str]
    _default: ClassVar[BaseEstimator]

    __metadata_request__fit: ClassVar = {"sample_domain": True, "target_labeled": True}
    __metadata_request__predict: ClassVar = {"sample_domain": True}

    def __init__(
        self, estimator: BaseEstimator | None = None, method: BaseEstimator | str | None = None
    ) -> None:
        self.estimator = estimator
        self.method = method

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_domain: Vector = None,
        target_labeled: Vector = None,
        sample_weight: Vector = None,
    ) -> Self:
        """Fit the method to both domains, and the estimator to all rows with a label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,)
            Labels; those of target rows are ignored, except where `target_labeled` is True.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. With None all rows count as both,
            with a `DomainWarning`, and nothing is adapted.
        target_labeled : array-like of shape (n_samples,), bool, or None, default=None
            Target rows with a label to learn from.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights of the rows for the estimator, which multiply those of the method. The method
            itself gives all rows equal weight.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            A parameter or an argument is invalid; or the method, or `sample_weight`, weights rows
            and the estimator would ignore the weights.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: the "
                "estimator learns from the labels of the source"
            )
        method, estimator = self._given_method(), self._given_estimator()
        X = self._checked(X, method, reset=True)
        is_source = source_mask(sample_domain, len(X))
        labelled = labelled_mask(is_source, target_labeled)
        y = self._targets(checked_labels(y, labelled), labelled)
        features, weights = X, None
        if method is not None:
            domains = {"sample_domain": sample_domain, "target_labeled": target_labeled}
            if hasattr(method, "transform"):
                features = np.asarray(method.fit_transform(X, y, **domains))
            else:
                method.fit(X, y, **domains)
            weights = getattr(method, "sample_weight_", None)
        if weights is not None:
            # Methods give target rows weight 0, but labelled ones are the best to learn from.
            weights = np.where(is_source, weights, 1.0)
        if sample_weight is not None:
            given = checked_weights(sample_weight, len(X))
            weights = given if weights is None else given * weights
        fit_params = {}
        if weights is not None:
            fit_params = {self._weights_keyword(estimator): weights[labelled]}
        # The rows and their weights are chosen here, so that nothing is left to be routed. With
        # routing enabled, estimators would refuse weights that they were not told to request.
        with config_context(enable_metadata_routing=False):
            try:
                estimator.fit(features[labelled], y[labelled], **fit_params)
            except ValueError as error:
                # scikit-learn suggests to enable routing, which is switched off here.
                if fit_params and "enable_metadata_routing" in str(error):
                    raise self._without_weights(estimator) from error
                raise
        self.method_, self.estimator_ = method, estimator
        return self

    def predict(self, X: Any, *, sample_domain: Vector = None) -> np.ndarray:
        """Predict for rows, as target rows unless `sample_domain` says otherwise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._of_mapped("predict", X, sample_domain)

    def _of_mapped(self, name: str, X: Any, sample_domain: Vector) -> np.ndarray:
        """Result of a method of the estimator for mapped rows."""
        check_is_fitted(self)
        X = self._checked(X, self.method_, reset=False)
        new_source_mask(sample_domain, len(X))  # refuse wrong domains even if they are not used
        if hasattr(self.method_, "transform"):
            X = np.asarray(self.method_.transform(X, sample_domain=sample_domain))
        return getattr(self.estimator_, name)(X)

    def _checked(self, X: Any, method: Any, *, reset: bool) -> np.ndarray:
        # Rows of heterogeneous domains have NaN for the features of the other domain.
        finite = getattr(method, "_finite", True)
        return validate_data(
            self, X, dtype=[np.float64, np.float32], ensure_all_finite=finite, reset=reset
        )

    def _given_method(self) -> Any:
        method = self.method
        if method is None:
            return CORAL()
        if isinstance(method, str) and method == "source-only":
            return None
        fit = getattr(method, "fit", None)
        learns = fit is not None and "sample_domain" in inspect.signature(fit).parameters
        if isinstance(method, type) or not learns or hasattr(method, "predict"):
            raise ValueError(
                "method must be a method of sktransfer.adaptation that maps or weights rows, such "
                f"as CORAL() or KLIEP(), 'source-only' or None, got {method!r}. To apply two maps "
                "put the first before AdaptedClassifier in a Pipeline"
            )
        return clone(method)

    def _given_estimator(self) -> Any:
        if self.estimator is None:
            return clone(self._default)
        if isinstance(self.estimator, type) or not _CHECKS[self._kind](self.estimator):
            raise ValueError(
                f"estimator must be a {self._kind} with scikit-learn's interface, or None, got "
                f"{self.estimator!r}"
            )
        return clone(self.estimator)

    def _weights_keyword(self, estimator: BaseEstimator) -> str:
        keyword = _weights_keyword(estimator)
        if keyword is None:
            raise self._without_weights(estimator)
        return keyword

    def _without_weights(self, estimator: BaseEstimator) -> ValueError:
        origin = "sample_weight" if self.method == "source-only" else f"method={self.method!r}"
        return ValueError(
            f"estimator={estimator!r} takes no sample_weight, so that it would ignore the weights "
            f"of {origin}; choose one whose fit takes them, such as {self._default!r}, or a "
            "method that maps features, such as CORAL()"
        )

    @abstractmethod
    def _targets(self, y: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        """Labels for the estimator, checked where they count."""

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class AdaptedClassifier(ClassifierMixin, _Adapted):
    """A classifier that learns from a labelled source for a target without labels, or with few.

    A method of `sktransfer.adaptation` maps the rows of both domains to common features, or weights
    source rows so that they resemble target rows; any classifier of scikit-learn learns from the
    result. The method is a parameter, so that a search can choose it.

    Parameters
    ----------
    estimator : classifier or None, default=None
        It is cloned. If the method weights rows, its `fit` must accept `sample_weight`; in a
        Pipeline, that of the last step. None is ``LogisticRegression(max_iter=1000)``.
    method : estimator, "source-only" or None, default=None
        For example `CORAL`, `OptimalTransportMap`, `SourceMetric`, `KLIEP` or
        `KernelMeanMatching`; it is cloned. "source-only" adapts nothing, which is the baseline to
        compare with. None is ``CORAL()``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    estimator_ : classifier
    method_ : estimator or None
        None if nothing is adapted.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X has names for its columns.

    Notes
    -----
    If classes have different proportions in source and target, maps that match whole
    distributions, such as `CORAL` and `OptimalTransportMap`, mix classes up; if the same features
    mean different classes, only labels of the target help. See
    `sktransfer.metrics.diagnose_shift`, and the scorers of `sktransfer.metrics`, which need no
    labels of the target.

    With metadata routing enabled `sample_domain` and `target_labeled` are requested by default.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from sklearn.svm import SVC
    >>> from sktransfer.adaptation import AdaptedClassifier, OptimalTransportMap, stack_domains
    >>> X_source, y_source = make_moons(200, noise=0.1, random_state=0)
    >>> X_target, y_target = make_moons(200, noise=0.1, random_state=1)
    >>> X_target = X_target @ [[0.8, 0.6], [-0.6, 0.8]] + 1
    >>> X, y, sample_domain = stack_domains(X_source, X_target, y_source)
    >>> for method in ("source-only", OptimalTransportMap(method="emd")):
    ...     classifier = AdaptedClassifier(SVC(), method).fit(X, y, sample_domain=sample_domain)
    ...     print(bool(classifier.score(X_target, y_target) > 0.85))
    False
    True
    """

    __metadata_request__predict_proba: ClassVar = {"sample_domain": True}
    __metadata_request__predict_log_proba: ClassVar = {"sample_domain": True}
    __metadata_request__decision_function: ClassVar = {"sample_domain": True}

    _kind = "classifier"
    _default = LogisticRegression(max_iter=1000)

    @_estimator_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any, *, sample_domain: Vector = None) -> np.ndarray:
        """Probabilities of the classes, (n_samples, n_classes); parameters as for `predict`."""
        return self._of_mapped("predict_proba", X, sample_domain)

    @_estimator_has("predict_log_proba")  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any, *, sample_domain: Vector = None) -> np.ndarray:
        """Logarithms of `predict_proba`; parameters as for `predict`."""
        return self._of_mapped("predict_log_proba", X, sample_domain)

    @_estimator_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any, *, sample_domain: Vector = None) -> np.ndarray:
        """Scores of the estimator; parameters as for `predict`."""
        return self._of_mapped("decision_function", X, sample_domain)

    def _targets(self, y: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        check_classification_targets(y[labelled])
        self.classes_ = np.unique(y[labelled])
        return y


class AdaptedRegressor(RegressorMixin, _Adapted):
    """A regressor that learns from a labelled source for a target without labels, or with few.

    Parameters
    ----------
    estimator : regressor or None, default=None
        As in `AdaptedClassifier`; None is ``Ridge()``.
    method : estimator, "source-only" or None, default=None
        As in `AdaptedClassifier`; methods that compare classes, such as `SourceMetric`, are of
        little use for regression.

    Attributes
    ----------
    estimator_ : regressor
    method_ : estimator or None
        None if nothing is adapted.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        If X has names for its columns.

    Notes
    -----
    Reweighting is exact only for covariate shift. If the distribution of y differs between source
    and target, maps that match whole distributions of features are misled by it.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.adaptation import AdaptedRegressor, KLIEP, stack_domains
    >>> rng = np.random.default_rng(0)
    >>> X_source, X_target = rng.normal(0, 1, (300, 1)), rng.normal(1, 0.3, (300, 1))
    >>> truth = lambda X: np.sin(X[:, 0])  # which no line fits everywhere
    >>> X, y, sample_domain = stack_domains(X_source, X_target, truth(X_source))
    >>> for method in ("source-only", KLIEP(gamma=1.0)):
    ...     regressor = AdaptedRegressor(method=method).fit(X, y, sample_domain=sample_domain)
    ...     print(round(regressor.score(X_target, truth(X_target)), 1))
    -0.8
    0.6
    """

    _kind = "regressor"
    _default = Ridge()

    def _targets(self, y: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        # Unlabelled rows may hold any placeholder, which must not be checked.
        values = np.zeros(len(y))
        values[labelled] = np.asarray(y[labelled], dtype=np.float64)
        assert_all_finite(values, input_name="y")
        return values


def _weights_keyword(estimator: BaseEstimator) -> str | None:
    """Name of the argument of `fit` that takes sample weights; None if they would be ignored."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = _weights_keyword(last)
        return None if inner is None else f"{name}__{inner}"
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    # A search passes **params of its fit on to the estimator that it searches over.
    parameters = inspect.signature(estimator.fit).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters) and hasattr(estimator, "estimator"):
        return _weights_keyword(estimator.estimator)
    return None
