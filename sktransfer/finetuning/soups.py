"""A soup of networks: the mean of the weights of several candidates of a search."""

from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from sktransfer._validation import Seed
from sktransfer.finetuning.averaging import BODY, HEAD
from sktransfer.finetuning.estimator import FineTuned
from sktransfer.finetuning.interpolation import between, interpolate_weights
from sktransfer.finetuning.search import best_first
from sktransfer.finetuning.settings import same_setting
from sktransfer.finetuning.strategy import FineTune, is_frozen

Weights = dict[str, np.ndarray]


def soup(
    search: Any,
    X: Any,
    y: Any,
    *,
    validation_fraction: float = 0.2,
    n_candidates: int | None = None,
    scoring: Any = None,
    random_state: Seed = None,
) -> Any:
    """Average the weights of a search's candidates, as long as that does no harm on held-out rows.

    The greedy soup, recipe 1 of [1]_. Candidates are trained again, the best of the search first,
    on rows of which some are held out, and all from the same network and the same initial head: the
    weights of networks that began elsewhere have no meaningful mean. A candidate becomes part of
    the mean if the score of the mean on the held-out rows does not fall. One network results, which
    predicts at the cost of one. Ingredients are trained with ``guard=False``.

    Parameters
    ----------
    search : GridSearchCV, RandomizedSearchCV or the like, fitted
        Of a `FineTunedClassifier` or `FineTunedRegressor`, or of a pipeline that ends with one.
    X : Any
        n samples; usually those that the search was fitted to, as a search keeps none.
    y : array-like of shape (n,) or (n, n_outputs)
    validation_fraction : float, default=0.2
        Share of the rows to hold out, stratified by class where there are enough of each.
    n_candidates : int or None, default=None
        Number of candidates to try, the best of the search; None tries all.
    scoring : str, callable or None, default=None
        As in scikit-learn. None is that of the search, or its `refit` if it has several.
    random_state : int, RandomState instance or None, default=None
        Seed of the split, and of the networks where the estimator has none.

    Returns
    -------
    estimator
        A fitted estimator like that of the search, with the parameters of its first ingredient and
        ``interpolate=1.0``: `interpolate_weights` gives any point between the source and the soup.
        `ingredients_` (of the last step, in a pipeline) has a dict for each candidate: "params";
        "score", that of the mean with it on the held-out rows; "used"; and "why" one was not tried.

    Raises
    ------
    ValueError
        The search is not one of such estimators, or no candidate tunes a network.

    References
    ----------
    .. [1] M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models
       improves accuracy without increasing inference time", ICML 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures, soup
    >>> digits = load_digits()
    >>> images, labels = digits.images[:120] / 16, digits.target[:120]
    >>> classifier = FineTunedClassifier(
    ...     PretrainedCNNFeatures(layer="blocks.3", image_size=32),
    ...     strategy=FineTune(epochs=2, guard=False),
    ...     random_state=0,
    ... )
    >>> grid = {"strategy__learning_rate": [1e-3, 3e-4]}
    >>> search = GridSearchCV(classifier, grid, cv=2).fit(images, labels)
    >>> mixed = soup(search, images, labels, random_state=0)
    >>> [ingredient["params"] for ingredient in mixed.ingredients_ if ingredient["used"]][:1] == [
    ...     search.best_params_
    ... ]
    True
    """
    check_is_fitted(search, "cv_results_")
    check_scalar(
        validation_fraction,
        "validation_fraction",
        (int, float),
        min_val=0,
        max_val=1,
        include_boundaries="neither",
    )
    if n_candidates is not None:
        check_scalar(n_candidates, "n_candidates", (int, np.integer), min_val=1)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    order = [row for row in best_first(search) if not np.isnan(_mean_score(search, row))]
    candidates = [
        _Candidate(search.estimator, search.cv_results_["params"][row], seed)
        for row in order[:n_candidates]
    ]
    first = next((each for each in candidates if each.tunes), None)
    if first is None:
        raise ValueError(
            "soup needs a search with a candidate that tunes a network, and all of these have "
            "strategy='frozen' or failed; search over FineTune strategies"
        )
    X, X_held, y, y_held = train_test_split(
        X,
        y,
        test_size=validation_fraction,
        stratify=_strata(search.estimator, y, validation_fraction),
        random_state=seed,
    )
    if first.front is not None:
        X = first.front.fit_transform(X, y)
        X_held = first.front.transform(X_held)
    mean: Any = first.keeping_its_source().fit(X, y)
    scorer = _scorer_of(search, mean, scoring)
    start = FrozenEstimator(interpolate_weights(mean, 0))
    source, total = _weights_of(start.estimator), _weights_of(mean)
    trained = {*mean.trained_parameters_}
    best, n_used = scorer(mean, X_held, y_held), 1
    ingredients: list[dict[str, Any]] = []
    for each in candidates:
        note: dict[str, Any] = {"params": each.params, "score": None, "used": False}
        ingredients.append(note)
        if each is first:
            note |= {"score": best, "used": True}
            continue
        if reason := each.differs_from(first):
            note["why"] = reason
            continue
        fitted = each.tuned.set_params(start_from=start).fit(X, y)
        weights = _weights_of(fitted)
        # Sums of float64 hold those of float32 without rounding that would show.
        with_it = {name: total[name] + weights[name] for name in total}
        tried = _with_mean(
            mean, source, with_it, n_used + 1, trained | {*fitted.trained_parameters_}
        )
        score = scorer(tried, X_held, y_held)
        note |= {"score": score, "used": score >= best}
        if note["used"]:
            mean, total, best, n_used = tried, with_it, score, n_used + 1
            trained |= {*fitted.trained_parameters_}
    mean.ingredients_ = ingredients
    if first.front is None:
        return mean
    return Pipeline([*first.front.steps, (first.name, mean)])


class _Candidate:
    """An estimator with the parameters of a candidate, and what stands before it in a pipeline."""

    def __init__(self, estimator: Any, params: dict[str, Any], seed: int) -> None:
        self.params = params
        made = clone(estimator).set_params(**{n: clone(v, safe=False) for n, v in params.items()})
        self.front: Pipeline | None = None
        self.name = ""
        if isinstance(made, Pipeline):
            self.name, last = made.steps[-1]
            self.front = Pipeline(made.steps[:-1]) if len(made.steps) > 1 else None
            made = last
        if not isinstance(made, FineTuned):
            raise ValueError(
                "soup needs a search of a FineTunedClassifier or FineTunedRegressor, or of a "
                f"pipeline that ends with one, got {made!r}"
            )
        strategy: Any = FineTune() if made.strategy is None else made.strategy
        made.strategy = strategy
        # One seed for all, as it draws the weights of networks that are not pretrained.
        if made.features.random_state is None:
            made.features.set_params(random_state=seed)
        if made.random_state is None:
            made.random_state = seed
        self.tuned: Any = made
        self.tunes = not is_frozen(strategy)
        if self.tunes:
            # Held-out rows judge the mean; heads of different temperatures have none.
            strategy.guard = False

    def keeping_its_source(self) -> Any:
        """The estimator, so that once it is fitted the source is known."""
        if self.tuned.strategy.interpolate is None:
            self.tuned.strategy.interpolate = 1.0
        return self.tuned

    def differs_from(self, first: "_Candidate") -> str:
        """Why its weights cannot be averaged with those of another, if so."""
        if not self.tunes:
            return "it tunes no network"
        if not same_setting(self.tuned.features, first.tuned.features):
            return "it has other features than the first ingredient"
        if not same_setting(_settings(self.front), _settings(first.front)):
            return "it has other steps before the network than the first ingredient"
        return ""


def _settings(front: Pipeline | None) -> Any:
    return None if front is None else front.get_params()


def _weights_of(estimator: Any) -> Weights:
    """Tensors of numbers of a network and its head."""
    state = estimator.features_.module_.state_dict()
    body = {f"{BODY}{name}": tensor.detach().cpu().numpy() for name, tensor in state.items()}
    head = {f"{HEAD}{name}": estimator._head[name] for name in ("weight", "bias")}
    return {
        name: array.astype(np.float64)
        for name, array in {**body, **head}.items()
        if array.dtype.kind == "f"
    }


def _with_mean(
    estimator: Any, source: Weights, total: Weights, n_networks: int, trained: set[str]
) -> Any:
    """A copy of a fitted estimator whose weights are a mean."""
    means = {name: (array / n_networks).astype(np.float32) for name, array in total.items()}
    known = estimator.features_.fitted_.ends
    ends = {
        name: (source[name].astype(np.float32), mean)
        for name, mean in means.items()
        if name in known or not np.array_equal(source[name], mean)
    }
    mixed = between(estimator, ends, 1.0)
    names = tuple(n for n, _ in mixed.features_.module_.named_parameters() if n in trained)
    mixed._trained_names = names
    record = mixed.features_.fitted_
    sizes = [means[f"{BODY}{name}"].size for name in names]
    mixed.features_.fitted_ = record.replace(
        trained_parameters=names,
        n_trained_parameters=sum(sizes) + mixed.coef_.size + mixed.intercept_.size,
    )
    return mixed


def _mean_score(search: Any, row: int) -> float:
    found = search.cv_results_
    by = search.refit if isinstance(search.refit, str) else None
    means = [name for name in found if name.startswith("mean_test_")]
    return float(found[f"mean_test_{by}" if by is not None else means[0]][row])


def _scorer_of(search: Any, estimator: Any, scoring: Any) -> Any:
    if scoring is not None:
        return check_scoring(estimator, scoring=scoring)
    scorer = search.scorer_
    if not isinstance(scorer, dict):
        return scorer
    if not isinstance(search.refit, str):
        raise ValueError(
            f"the search has several scores, {sorted(scorer)}, and refit={search.refit!r} names "
            "none of them; pass scoring="
        )
    return scorer[search.refit]


def _strata(estimator: Any, y: Any, fraction: float) -> Any:
    """Classes to stratify by, where there are enough rows of each."""
    if not is_classifier(estimator) or np.ndim(y) != 1:
        return None
    counts = np.unique(np.asarray(y), return_counts=True)[1]
    n_held_out = int(np.ceil(fraction * len(y)))
    enough = counts.min() >= 2 and len(counts) <= min(n_held_out, len(y) - n_held_out)
    return y if enough else None
