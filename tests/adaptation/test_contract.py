"""What holds for every method between two domains, whatever it does."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

import sktransfer.adaptation as adaptation
from sktransfer.adaptation import (
    CORAL,
    KLIEP,
    ULSIF,
    AdaptedClassifier,
    AdaptedRegressor,
    ClassifierDensityRatio,
    DomainStandardScaler,
    KernelMeanMatching,
    LabelPropagationClassifier,
    NearestNeighborWeights,
    OptimalTransportMap,
    PrototypeTransferClassifier,
    SourceMetric,
    SubspaceAlignment,
    TrAdaBoostClassifier,
    TrAdaBoostRegressor,
    TransferComponentAnalysis,
)
from sktransfer.adaptation.stacking import stack_domains
from sktransfer.exceptions import DomainWarning

MAPS = {
    "coral": CORAL(),
    "subspace alignment": SubspaceAlignment(n_components=2),
    "scaler": DomainStandardScaler(),
    "tca": TransferComponentAnalysis(n_components=2),
    "emd": OptimalTransportMap(method="emd"),
    "sinkhorn": OptimalTransportMap(method="sinkhorn"),
    "class-regularised": OptimalTransportMap(method="class-regularised", reg=1.0, max_iter=5000),
    "linear transport": OptimalTransportMap(method="linear"),
    "discriminative metric": SourceMetric(),
    "nca": SourceMetric(method="nca", random_state=0),
}
WEIGHTS = {
    "kmm": KernelMeanMatching(),
    "kliep": KLIEP(),
    "ulsif": ULSIF(),
    "classifier": ClassifierDensityRatio(),
    "neighbours": NearestNeighborWeights(),
}
CLASSIFIERS = {
    "propagation": LabelPropagationClassifier(),
    "spreading": LabelPropagationClassifier(method="spreading"),
    "prototypes": PrototypeTransferClassifier(),
}
WIDE = {"CanonicalCorrelationMap", "LinearGromovWasserstein"}  # of domains with other features
BOOSTED = {TrAdaBoostClassifier, TrAdaBoostRegressor}  # which want some labels of the target

METHODS = {**MAPS, **WEIGHTS}
for method in METHODS.values():
    if "random_state" in method.get_params():
        method.set_params(random_state=0)
ADAPTED = {
    **{name: AdaptedClassifier(method=method) for name, method in METHODS.items()},
    **CLASSIFIERS,
    "source-only": AdaptedClassifier(method="source-only"),
}


def two_domains(n_source=60, n_target=50, seed=0):
    """Three classes in three features; the target is moved, turned and in no order."""
    rng = np.random.RandomState(seed)
    centres = np.array([[0, 0, 0], [3, 0, 1], [0, 3, -1]])
    labels = [np.arange(n) % 3 for n in (n_source, n_target)]
    rows = [centres[own] + rng.normal(size=(len(own), 3)) * 0.6 for own in labels]
    rows[1] = rows[1] @ [[0.9, 0.3, 0], [-0.3, 0.9, 0], [0, 0, 1.2]] + [0.5, -0.4, 0]
    X, y, domain = stack_domains(*rows, *labels)
    order = rng.permutation(len(X))
    return X[order], y[order], domain[order]


X, Y, DOMAIN = two_domains()
IS_SOURCE = DOMAIN > 0
for array in (X, Y, DOMAIN):
    array.flags.writeable = False  # nothing of the caller's is ever written to


def result_of(method, X=X, y=Y, domain=DOMAIN):
    """What a method makes of rows: mapped ones, or weights."""
    fitted = clone(method)
    if hasattr(method, "transform"):
        return fitted.fit_transform(X, y, sample_domain=domain)
    return fitted.fit(X, y, sample_domain=domain).sample_weight_


def test_every_public_method_is_among_those_that_are_tested():
    tested = {type(each).__name__ for each in (*METHODS.values(), *CLASSIFIERS.values())}
    tested |= WIDE | {cls.__name__ for cls in BOOSTED}
    tested |= {"AdaptedClassifier", "AdaptedRegressor", "stack_domains", "stack_heterogeneous"}
    assert tested == set(adaptation.__all__)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_rows_may_come_in_any_order(name):
    for seed in range(3):
        p = np.random.RandomState(seed).permutation(len(X))
        found = result_of(METHODS[name], X[p], Y[p], DOMAIN[p])
        expected = result_of(METHODS[name])[p]
        assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTED)
def test_predictions_do_not_depend_on_the_order_of_rows(name):
    p = np.random.RandomState(0).permutation(len(X))
    one = clone(ADAPTED[name]).fit(X, Y, sample_domain=DOMAIN)
    other = clone(ADAPTED[name]).fit(X[p], Y[p], sample_domain=DOMAIN[p])
    assert_allclose(one.predict_proba(X[p]), other.predict_proba(X)[p], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTED)
@pytest.mark.parametrize("wrong", [0, 1, 7, "other", "nan"])
def test_labels_of_target_rows_that_are_not_said_to_have_one_do_not_matter(name, wrong):
    flipped = (2 - Y) if wrong == 0 else Y.astype(float if wrong == "nan" else object)
    if wrong != 0:
        flipped[~IS_SOURCE] = np.nan if wrong == "nan" else wrong
        if wrong != "nan":
            flipped = np.array([int(v) if s else wrong for v, s in zip(Y, IS_SOURCE, strict=True)],
                               dtype=object if wrong == "other" else int)  # fmt: skip
    y = np.where(IS_SOURCE, Y, flipped) if wrong == 0 else flipped
    one = clone(ADAPTED[name]).fit(X, Y, sample_domain=DOMAIN)
    other = clone(ADAPTED[name]).fit(X, y, sample_domain=DOMAIN)
    assert_array_equal(one.predict(X).astype(str), np.char.replace(other.predict(X).astype(str),
                                                                   ".0", ""))  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTED)
@pytest.mark.parametrize("labels", [["b", "a", "c"], [-1, 1, 5], [3, 7, 11], [True, False, True]])
def test_labels_may_be_of_any_kind(name, labels):
    if len(set(labels)) == 2:
        keep = Y < 2
        X_, y, domain = X[keep], np.array(labels[:2])[Y[keep]], DOMAIN[keep]
        expected = np.array(labels[:2])[
            clone(ADAPTED[name]).fit(X_, Y[keep], sample_domain=domain).predict(X_)
        ]
    else:
        order = np.argsort(labels)  # classes in the order of their labels
        X_, y, domain = X, np.array(labels)[Y], DOMAIN
        plain = np.argsort(order)[Y]
        fitted = clone(ADAPTED[name]).fit(X_, plain, sample_domain=domain)
        expected = np.sort(labels)[fitted.predict(X_)]
    fitted = clone(ADAPTED[name]).fit(X_, y, sample_domain=domain)
    # Solvers stop at other points when classes change places.
    assert np.sum(fitted.predict(X_) != expected) <= 1
    assert_array_equal(fitted.classes_, np.unique(y))


@pytest.mark.parametrize("name", MAPS)
def test_a_map_of_a_domain_onto_itself_changes_little(name):
    both, _, domain = stack_domains(X[IS_SOURCE], X[IS_SOURCE])
    y = np.concatenate([Y[IS_SOURCE]] * 2)
    mapped = result_of(MAPS[name], both, y, domain)
    source, target = mapped[domain > 0], mapped[domain < 0]
    if name in ("sinkhorn", "class-regularised"):  # entropy draws rows together
        assert np.abs(source.mean(0) - target.mean(0)).max() < 0.05
    else:
        assert_allclose(source, target, atol=1e-6)
    if name in ("coral", "emd", "linear transport"):
        assert_allclose(source, X[IS_SOURCE], atol=1e-6)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_for_a_target_like_the_source_are_all_alike(name):
    both, _, domain = stack_domains(X[IS_SOURCE], X[IS_SOURCE])
    fitted = clone(WEIGHTS[name]).fit(both, sample_domain=domain)
    weights = fitted.sample_weight_[domain > 0]
    assert_allclose(weights.mean(), 1)
    assert_array_equal(fitted.sample_weight_[domain < 0], 0)
    assert fitted.effective_sample_size_ > 0.8 * len(weights)


@pytest.mark.parametrize("name", METHODS)
def test_without_domains_there_is_a_warning_and_with_one_alone_an_error(name):
    with pytest.warns(DomainWarning, match="without sample_domain"):
        clone(METHODS[name]).fit(X, Y)
    with pytest.raises(ValueError, match="no target row"):
        clone(METHODS[name]).fit(X, Y, sample_domain=np.ones(len(X)))
    with pytest.raises(ValueError, match="no source row"):
        clone(METHODS[name]).fit(X, Y, sample_domain=-np.ones(len(X)))
    for wrong in (np.where(IS_SOURCE, 1, 0), DOMAIN[:-1], DOMAIN.astype(str)):
        with pytest.raises(ValueError, match="sample_domain must hold"):
            clone(METHODS[name]).fit(X, Y, sample_domain=wrong)


@pytest.mark.parametrize("name", METHODS)
def test_there_may_be_more_features_than_rows(name):
    rng = np.random.RandomState(0)
    wide = np.hstack([X[:24], rng.normal(size=(24, 40)) * 0.1])
    found = result_of(METHODS[name], wide, Y[:24], DOMAIN[:24])
    assert np.isfinite(found).all()
    assert len(found) == 24


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("n_source", [1, 2, 20])
def test_a_single_row_is_mapped_or_refused_with_a_reason(name, n_source):
    source, target = np.flatnonzero(IS_SOURCE)[:n_source], np.flatnonzero(~IS_SOURCE)[:1]
    rows = np.concatenate([source, target])
    try:
        found = result_of(METHODS[name], X[rows], Y[rows], DOMAIN[rows])
    except ValueError as error:
        assert len(str(error)) > 20  # noqa: PT017
    else:
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", METHODS)
def test_single_precision_stays_and_copies_work_alike(name):
    method = clone(METHODS[name]).fit(X.astype(np.float32), Y, sample_domain=DOMAIN)
    again = pickle.loads(pickle.dumps(method))
    if hasattr(method, "transform"):
        mapped = method.transform(X.astype(np.float32), sample_domain=DOMAIN)
        assert mapped.dtype == np.float32
        assert_array_equal(mapped, again.transform(X.astype(np.float32), sample_domain=DOMAIN))
        frame = method.set_output(transform="pandas").transform(X.astype(np.float32))
        assert list(frame.columns) == list(method.get_feature_names_out())
    assert clone(method).get_params().keys() == method.get_params().keys()


@pytest.mark.parametrize("name", sorted(ADAPTED.keys() - {"tca"}))  # which wants another head
def test_a_shifted_target_is_told_as_well_as_without_adaptation_or_better(name):
    fitted = clone(ADAPTED[name]).fit(X, Y, sample_domain=DOMAIN)
    plain = LogisticRegression(max_iter=1000).fit(X[IS_SOURCE], Y[IS_SOURCE])
    target, labels = X[~IS_SOURCE], Y[~IS_SOURCE]
    assert fitted.score(target, labels) >= plain.score(target, labels) - 0.05


def test_regressors_adapt_with_every_method_that_needs_no_classes():
    y = X.sum(1) * 2 + 1
    for name in ("coral", "emd", "kliep", "kmm", "neighbours", "tca"):
        fitted = AdaptedRegressor(method=METHODS[name]).fit(X, y, sample_domain=DOMAIN)
        assert np.isfinite(fitted.predict(X)).all()
