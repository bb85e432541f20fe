"""Weights from a classifier of domains, and from nearest neighbours."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sktransfer.adaptation.reweighting import ClassifierDensityRatio, NearestNeighborWeights


@pytest.fixture
def shifted():
    random = np.random.RandomState(0)
    X = np.concatenate([random.randn(90, 2), random.randn(30, 2) + 0.7])
    return X, np.repeat([1, -1], [90, 30])


def test_default_ratio_is_bayes_rule_on_logistic_regression(shifted):
    X, sample_domain = shifted
    method = ClassifierDensityRatio().fit(X, sample_domain=sample_domain)
    classifier = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, sample_domain < 0)
    source, target = classifier.predict_proba(X).T
    expected = 90 / 30 * target / source
    np.testing.assert_allclose(method.density_ratio(X), expected, rtol=1e-3)
    np.testing.assert_allclose(
        method.sample_weight_[:90], expected[:90] / expected[:90].mean(), rtol=1e-3
    )


def test_the_ratio_of_two_gaussians_is_found():
    random = np.random.RandomState(0)
    X = np.concatenate([random.randn(3000, 1), random.randn(1000, 1) + 1])
    method = ClassifierDensityRatio().fit(X, sample_domain=np.repeat([1, -1], [3000, 1000]))
    grid = np.linspace(-1, 2, 31)[:, None]
    np.testing.assert_allclose(method.density_ratio(grid), np.exp(grid[:, 0] - 0.5), rtol=0.2)


def test_a_classifier_that_memorises_is_asked_about_rows_it_has_not_seen(shifted):
    X, sample_domain = shifted
    tree = DecisionTreeClassifier()
    memorised = ClassifierDensityRatio(tree, cv=None).fit
    with pytest.raises(ValueError, match="no source row that is like the target"):
        memorised(X, sample_domain=sample_domain)
    method = ClassifierDensityRatio(tree, random_state=0).fit(X, sample_domain=sample_domain)
    assert 2 < method.effective_sample_size_ < 90


def test_out_of_fold_probabilities_are_those_of_classifiers_without_the_row():
    X = np.array([[0.0], [0.1], [5.0], [5.1], [0.2], [5.2]])
    method = ClassifierDensityRatio(KNeighborsClassifier(2), cv=2, random_state=0)
    weights = method.fit(X, sample_domain=[1, 1, 1, 1, -1, -1]).sample_weight_
    # A row itself would make the source likelier than the target.
    assert weights[4:].tolist() == [0, 0]
    assert weights[:4].mean() == pytest.approx(1)


def test_a_classifier_without_probabilities_is_an_error_that_names_a_cure(shifted):
    with pytest.raises(ValueError, match="predict_proba.*CalibratedClassifierCV"):
        ClassifierDensityRatio(RidgeClassifier()).fit(shifted[0], sample_domain=shifted[1])


@pytest.mark.parametrize("cv", [1, "five", True, 2.5])
def test_a_wrong_cv_is_an_error_that_names_it(shifted, cv):
    with pytest.raises(ValueError, match="cv must be 'auto', None or an int above 1"):
        ClassifierDensityRatio(cv=cv).fit(shifted[0], sample_domain=shifted[1])


def test_neighbour_weights_count_the_target_rows_of_each_cell(shifted):
    X, sample_domain = shifted
    weights = NearestNeighborWeights(smoothing=0).fit(X, sample_domain=sample_domain)
    distances = ((X[90:, None] - X[None, :90]) ** 2).sum(axis=2)
    counts = np.bincount(distances.argmin(axis=1), minlength=90)
    np.testing.assert_allclose(weights.sample_weight_[:90], counts * 90 / 30)
    smooth = NearestNeighborWeights(smoothing=2.0).fit(X, sample_domain=sample_domain)
    np.testing.assert_allclose(smooth.sample_weight_[:90], (counts + 2) * 90 / (30 + 180))
    np.testing.assert_allclose(smooth.density_ratio(X[:90]), smooth.sample_weight_[:90])


def test_equal_source_rows_share_their_cell():
    X = [[0.0], [0.0], [1.0], [-0.0], [0.1], [0.2], [0.3], [1.1]]
    sample_domain = [1, 1, 1, 1, -1, -1, -1, -1]
    method = NearestNeighborWeights(smoothing=0).fit(X, sample_domain=sample_domain)
    assert method.sample_weight_[:4].tolist() == [1, 1, 1, 1]
    assert method.density_ratio([[0.4], [2.0]]).tolist() == [1, 1]


@pytest.mark.parametrize("smoothing", [-1, np.nan, np.inf])
def test_a_smoothing_that_is_no_count_is_an_error(smoothing, shifted):
    with pytest.raises(ValueError, match="smoothing"):
        NearestNeighborWeights(smoothing=smoothing).fit(shifted[0], sample_domain=shifted[1])
