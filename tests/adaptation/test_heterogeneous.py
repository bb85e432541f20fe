"""Maps between domains with other features, against scikit-learn's CCA and POT."""

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from sktransfer.adaptation.heterogeneous import CanonicalCorrelationMap, LinearGromovWasserstein
from sktransfer.adaptation.stacking import stack_heterogeneous

ot = pytest.importorskip("ot")


@pytest.fixture
def views():
    """Two views of 200 things, of three and five features."""
    random = np.random.RandomState(0)
    hidden = random.randn(200, 3) * [3, 2, 1] + random.rand(200, 3) ** 3 * 8
    source = hidden @ random.randn(3, 3) + 0.3 * random.randn(200, 3)
    target = hidden @ random.randn(3, 5) + 0.3 * random.randn(200, 5) + 7
    return source, target


def every_pair(n):
    return np.column_stack([np.arange(n), np.arange(n)])


def test_canonical_correlations_are_those_of_scikit_learn(views):
    source, target = views
    X, _, sample_domain = stack_heterogeneous(source, target, pairs=every_pair(200))
    ours = CanonicalCorrelationMap(n_source_features=3, reg=0.0)
    Z = ours.fit_transform(X, sample_domain=sample_domain)
    scores = CCA(3, tol=1e-14, max_iter=10_000).fit(source, target).transform(source, target)
    peers = [np.corrcoef(a, b)[0, 1] for a, b in zip(scores[0].T, scores[1].T, strict=True)]
    np.testing.assert_allclose(ours.correlations_, peers, atol=1e-10)
    for mine, theirs in ((Z[:200], scores[0]), (Z[200:], scores[1])):
        likeness = [np.corrcoef(a, b)[0, 1] for a, b in zip(mine.T, theirs.T, strict=True)]
        np.testing.assert_allclose(np.abs(likeness), 1, atol=1e-9)


def test_canonical_components_of_pairs_have_variance_one_and_their_correlations(views):
    source, target = views
    X, _, sample_domain = stack_heterogeneous(source, target, pairs=every_pair(200))
    ours = CanonicalCorrelationMap(n_source_features=3, reg=0.0)
    Z = ours.fit_transform(X, sample_domain=sample_domain)
    covariance = np.cov(Z[:200].T, Z[200:].T)
    np.testing.assert_allclose(covariance[:3, :3], np.eye(3), atol=1e-10)
    np.testing.assert_allclose(covariance[3:, 3:], np.eye(3), atol=1e-10)
    np.testing.assert_allclose(covariance[:3, 3:], np.diag(ours.correlations_), atol=1e-10)


def test_only_pairs_are_learned_from_and_they_may_stand_anywhere(views):
    source, target = views
    random = np.random.RandomState(1)
    pairs = np.column_stack([np.arange(100), np.arange(100)])
    X, _, sample_domain = stack_heterogeneous(source, target, pairs=pairs)
    some = CanonicalCorrelationMap(n_source_features=3).fit(X, sample_domain=sample_domain)
    p = random.permutation(len(X))
    again = CanonicalCorrelationMap(n_source_features=3).fit(X[p], sample_domain=sample_domain[p])
    np.testing.assert_allclose(again.target_coef_, some.target_coef_, atol=1e-10)
    assert some.n_pairs_ == 100
    wide = np.hstack([source[:100], target[:100]])
    with pytest.warns(UserWarning, match="without sample_domain"):
        whole = CanonicalCorrelationMap(n_source_features=3).fit(wide)
    np.testing.assert_allclose(whole.source_coef_, some.source_coef_, atol=1e-10)


def test_chance_correlations_of_few_pairs_are_held_down_by_reg():
    random = np.random.RandomState(0)
    X, _, sample_domain = stack_heterogeneous(
        random.randn(12, 30), random.randn(12, 30), pairs=every_pair(12)
    )
    loose = CanonicalCorrelationMap(3, reg=0.0).fit(X, sample_domain=sample_domain)
    np.testing.assert_allclose(loose.correlations_, 1, atol=1e-6)
    tight = CanonicalCorrelationMap(3, reg=10.0).fit(X, sample_domain=sample_domain)
    assert tight.correlations_.max() < 0.8


def test_a_classifier_of_the_source_works_on_the_target_through_pairs():
    X, y = load_iris(return_X_y=True)
    source, target, pairs = X[:, :2], X[:, 1:], every_pair(150)[::3]
    wide, labels, domain = stack_heterogeneous(source, target, y, pairs=pairs)
    Z = CanonicalCorrelationMap(n_source_features=2).fit_transform(wide, sample_domain=domain)
    head = LogisticRegression().fit(Z[:150], labels[:150])
    own = cross_val_score(LogisticRegression(), source, y).mean()
    assert head.score(Z[150:], y) > own - 0.05


def test_no_pairs_are_refused_with_a_way_out(views):
    source, target = views
    X, _, sample_domain = stack_heterogeneous(source, target)
    with pytest.raises(ValueError, match="Pass pairs to stack_heterogeneous"):
        CanonicalCorrelationMap(n_source_features=3).fit(X, sample_domain=sample_domain)


@pytest.mark.parametrize("swapped", [False, True])
def test_linear_gromov_wasserstein_is_that_of_pot(views, swapped):
    source, target = views[::-1] if swapped else views
    X, _, sample_domain = stack_heterogeneous(source, target)
    ours = LinearGromovWasserstein(n_source_features=source.shape[1])
    Z = ours.fit_transform(X, sample_domain=sample_domain)
    peer = ot.da.LinearGWTransport(sign_eigs="skewness").fit(Xs=source, Xt=target)
    np.testing.assert_allclose(Z[:200], peer.transform(Xs=source), rtol=0, atol=1e-11)
    np.testing.assert_array_equal(Z[200:], target)
    np.testing.assert_allclose(Z[:200].mean(axis=0), target.mean(axis=0), atol=1e-11)


def test_a_few_labels_tell_which_way_symmetric_axes_point():
    random = np.random.RandomState(0)
    y = random.randint(2, size=400)
    rows = random.randn(400, 2) * [1, 0.5] + (2 * y - 1)[:, None] * [3, 0]
    source, target = rows[:200], -rows[200:] @ random.randn(2, 3)
    X, labels, sample_domain = stack_heterogeneous(source, target, y[:200], y[200:])
    few = np.append(np.zeros(200, bool), np.arange(200) < 6)
    ours = LinearGromovWasserstein(n_source_features=2, signs="labels")
    Z = ours.fit_transform(X, labels, sample_domain=sample_domain, target_labeled=few)
    head = LogisticRegression().fit(Z[:200], y[:200])
    assert head.score(Z[200:], y[200:]) > 0.97
    with pytest.raises(ValueError, match="needs labelled target rows"):
        ours.fit(X, labels, sample_domain=sample_domain)


def test_names_out_are_those_of_the_target():
    pd = pytest.importorskip("pandas")
    source = pd.DataFrame({"a": [0.0, 1, 5]})
    target = pd.DataFrame({"a": [20.0, 22, 30], "b": [7.0, 8, 7]})
    X, _, sample_domain = stack_heterogeneous(source, target)
    ours = LinearGromovWasserstein(n_source_features=1).fit(X, sample_domain=sample_domain)
    assert ours.get_feature_names_out().tolist() == ["target__a", "target__b"]
