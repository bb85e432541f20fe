"""Which rows a model is fitted to, and which it is scored on."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.model_selection import ShuffleSplit, StratifiedKFold, cross_val_predict

from tests.helpers.reports import both, quiet, small_pipeline


def test_cross_validation_is_that_of_scikit_learn(digits):
    X, y = digits[0][:80], digits[1][:80]
    folds = StratifiedKFold(3)
    found = quiet(small_pipeline(), X, y, cv=folds).summary()
    expected = cross_val_predict(small_pipeline(), X, y, cv=folds, method="predict_proba")
    assert found["protocol"] == "cross-validation"
    assert found["scores"]["log loss"]["value"] == pytest.approx(
        metrics.log_loss(y, expected), rel=1e-4
    )


def test_a_model_fitted_to_x_train_predicts_x(digits):
    X, y = digits
    made = quiet(
        small_pipeline(), X[100:200], y[100:200], X_train=X[:110], y_train=y[:110], max_rows=50
    )
    expected = small_pipeline().fit(X[:110], y[:110]).score(X[100:200], y[100:200])
    summary = made.summary()
    assert summary["protocol"] == "fitted to X_train"
    assert summary["scores"]["accuracy"]["value"] == pytest.approx(expected)
    assert summary["seen_in_training"] == 10
    assert "10 rows of X stand in X_train, too, so the scores are too good." in made.to_html()


def test_copies_and_groups_are_kept_in_one_fold(digits):
    from sktransfer.inspection.report.protocol import folds_of

    y = digits[1][:60]
    groups = np.arange(60) % 25
    for stratified in (True, False):
        splits = folds_of(
            y,
            cv=None,
            groups=groups,
            candidates=np.arange(60),
            stratified=stratified,
            sample_domain=None,
            seed=0,
        )
        assert sorted(np.concatenate([test for _, test in splits])) == [*range(60)]
        for train, test in splits:
            assert not set(groups[train]) & set(groups[test])


def test_overlapping_splits_are_refused_where_the_scores_would_stand(digits):
    made = quiet(small_pipeline(), *both(digits), cv=ShuffleSplit(3, test_size=0.5, random_state=0))
    with pytest.warns(UserWarning, match="must hold out each row once at most"):
        assert "scores" in made.summary()["sections_failed"]
