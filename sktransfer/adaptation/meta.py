"""Any estimator of scikit-learn, made to learn from the source for the target."""

import inspect
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

from sktransfer._validation import labelled_mask, source_mask
from sktransfer.adaptation._base import checked_labels, checked_weights, mask_of_some
from sktransfer.adaptation.alignment import CORAL
from sktransfer.adaptation.wide import WideMap


def _estimator_has(name: str) -> Any:
    def check(self: Any) -> bool:
        estimator = getattr(self, "estimator_", None) or self._given_estimator()
        getattr(estimator, name)  # whose AttributeError says more than ours would
        return True

    return available_if(check)


class _Adapted(BaseEstimator):
    """A method between two domains, and an estimator behind it."""

    __metadata_request__fit: ClassVar = {"sample_domain": True, "target_labeled": True}
    __metadata_request__predict: ClassVar = {"sample_domain": True}

    def __init__(self, estimator: Any = None, method: Any = None) -> None:
        self.estimator = estimator
        self.method = method

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_domain: Any = None,
        target_labeled: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Fit the method to both domains, and the estimator to all rows with a label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of both domains, in any order.
        y : array-like of shape (n_samples,)
            Those of target rows are not looked at but where `target_labeled` says so.
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source and negative for target rows. None takes all rows for both, with a
            `DomainWarning`: then there is nothing to adapt.
        target_labeled : array-like of shape (n_samples,), bool, or None, default=None
            Target rows with a label to learn from.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Of the rows in the estimator, times those of the method. The method itself sees all
            rows alike.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            A parameter or an argument is unsound; or the method, or `sample_weight`, weighs rows
            and the estimator would ignore it.
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
            weights = np.where(is_source, weights, 1.0)
        if sample_weight is not None:
            own = checked_weights(sample_weight, len(X))
            weights = own if weights is None else own * weights
        how = {}
        if weights is not None:
            how = {self._weights_keyword(estimator): weights[labelled]}
        # Within, nothing is left to be routed: rows and weights are chosen already.
        with config_context(enable_metadata_routing=False):
            try:
                estimator.fit(features[labelled], y[labelled], **how)
            except ValueError as error:
                # Enabling it, which scikit-learn suggests, would not help here.
                if how and "enable_metadata_routing" in str(error):
                    raise self._without_weights(estimator) from error
                raise
        self.method_, self.estimator_ = method, estimator
        return self

    def predict(self, X: Any, *, sample_domain: Any = None) -> np.ndarray:
        """Predict for rows, which are of the target unless it is said that they are not.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_domain : array-like of shape (n_samples,) or None, default=None
            Positive for source rows.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        mapped = self._mapped(X, sample_domain)  # which sees whether it was fitted
        return self.estimator_.predict(mapped)

    def _mapped(self, X: Any, sample_domain: Any) -> np.ndarray:
        check_is_fitted(self)
        X = self._checked(X, self.method_, reset=False)
        mask_of_some(sample_domain, len(X))  # also where it makes no difference
        if self.method_ is None or not hasattr(self.method_, "transform"):
            return X
        return np.asarray(self.method_.transform(X, sample_domain=sample_domain))

    def _checked(self, X: Any, method: Any, *, reset: bool) -> np.ndarray:
        # Rows of domains with other features have NaN for those of the other domain.
        finite = "allow-nan" if isinstance(method, WideMap) else True
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
                "method must be a method of sktransfer.adaptation that maps or weighs rows, such "
                f"as CORAL() or KLIEP(), 'source-only' or None, got {method!r}. For two maps in a "
                "row put the first before AdaptedClassifier in a Pipeline"
            )
        return clone(method)

    def _given_estimator(self) -> Any:
        if self.estimator is None:
            return self._default()
        if isinstance(self.estimator, type) or not self._is_suitable(self.estimator):
            raise ValueError(
                f"estimator must be a {self._kind} of scikit-learn's kind, or None, got "
                f"{self.estimator!r}"
            )
        return clone(self.estimator)

    def _weights_keyword(self, estimator: Any) -> str:
        keyword = _weights_keyword(estimator)
        if keyword is None:
            raise self._without_weights(estimator)
        return keyword

    def _without_weights(self, estimator: Any) -> ValueError:
        who = "sample_weight" if self.method == "source-only" else f"method={self.method!r}"
        return ValueError(
            f"estimator={estimator!r} takes no sample_weight, so that it would ignore the weights "
            f"of {who}; choose one whose fit takes them, such as {self._default()!r}, or a method "
            "that maps features, such as CORAL()"
        )

    _kind: ClassVar[str]

    def _default(self) -> Any:
        raise NotImplementedError

    def _is_suitable(self, estimator: Any) -> bool:
        raise NotImplementedError

    def _targets(self, y: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class AdaptedClassifier(ClassifierMixin, _Adapted):
    """A classifier that learns from a labelled source for a target without labels, or with few.

    A method of `sktransfer.adaptation` maps the rows of both domains to features that are alike, or
    weighs source rows so that they look like target rows; any classifier of scikit-learn learns
    from that. Which method suits is a parameter, so that a search can tell.

    Parameters
    ----------
    estimator : classifier or None, default=None
        Is cloned. If the method weighs rows, its `fit` must take `sample_weight`, as must that of
        the last step of a Pipeline. None is ``LogisticRegression(max_iter=1000)``.
    method : estimator, "source-only" or None, default=None
        Such as `CORAL`, `OptimalTransportMap`, `SourceMetric`, `KLIEP` or `KernelMeanMatching`; it
        is cloned. "source-only" adapts nothing, which is the baseline to compare with. None is
        ``CORAL()``.

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
    Where the target's classes have other shares than the source's, maps that match whole
    distributions, such as `CORAL` and `OptimalTransportMap`, mix classes up; where the same
    features mean other classes, nothing helps but labels of the target. See
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

    classes_: np.ndarray
    _kind = "classifier"

    @_estimator_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any, *, sample_domain: Any = None) -> np.ndarray:
        """Probabilities of the classes, (n_samples, n_classes); parameters as for `predict`."""
        mapped = self._mapped(X, sample_domain)
        return self.estimator_.predict_proba(mapped)

    @_estimator_has("predict_log_proba")  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any, *, sample_domain: Any = None) -> np.ndarray:
        """Their logarithms."""
        mapped = self._mapped(X, sample_domain)
        return self.estimator_.predict_log_proba(mapped)

    @_estimator_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any, *, sample_domain: Any = None) -> np.ndarray:
        """Scores as the estimator has them; parameters as for `predict`."""
        mapped = self._mapped(X, sample_domain)
        return self.estimator_.decision_function(mapped)

    def _default(self) -> Any:
        return LogisticRegression(max_iter=1000)

    def _is_suitable(self, estimator: Any) -> bool:
        return is_classifier(estimator)

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
        As in `AdaptedClassifier`; of a method that compares classes, such as `SourceMetric`, little
        is to be expected here.

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
    Reweighting is exact only for covariate shift. If the target's numbers have another distribution
    than the source's, maps that match whole distributions are misled by that.

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

    def _default(self) -> Any:
        return Ridge()

    def _is_suitable(self, estimator: Any) -> bool:
        return is_regressor(estimator)

    def _targets(self, y: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        # Where there is no label, anything may stand.
        values = np.zeros(len(y))
        values[labelled] = np.asarray(y[labelled], dtype=np.float64)
        assert_all_finite(values, input_name="y")
        return values


def _weights_keyword(estimator: Any) -> str | None:
    """What weights of rows are called in `fit`, or None if they would be ignored."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = _weights_keyword(last)
        return None if inner is None else f"{name}__{inner}"
    if has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    # Searches hand on what they are given, by the names of what they search over.
    parameters = inspect.signature(estimator.fit).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters) and hasattr(estimator, "estimator"):
        return _weights_keyword(estimator.estimator)
    return None
