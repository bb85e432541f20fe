"""Features of training rows by networks that were tuned without them."""

from typing import ClassVar

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    PretrainedCNNFeatures,
    PretrainedTextFeatures,
    RNNSequenceFeatures,
)
from sktransfer.finetuning.cross_fitting import folds
from sktransfer.finetuning.targets import encode_targets
from tests.helpers.languages import LABELS, TEXTS, write_language
from tests.helpers.networks import TwoStages

pytestmark = pytest.mark.slow

SEED = 7
HOW = {
    "epochs": 2,
    "batch_size": 32,
    "learning_rate": 0.01,
    "guard": False,
    "random_state": 3,
}


class Starts(Callback):
    """Counts trainings."""

    count: ClassVar[list] = []

    def on_train_begin(self, net, **kwargs):
        type(self).count.append(1)


def images_of(unfreeze="all", cross_fit=3, **settings):
    return PretrainedCNNFeatures(
        TwoStages,
        image_size=16,
        random_state=SEED,
        engine="torch",
        cross_fit=cross_fit,
        strategy=FineTune(unfreeze, **{**HOW, **settings}),
    )


def masks_of(features, y, n_rows):
    seed = np.random.RandomState(features.strategy.random_state).randint(2**31 - 1)
    return list(folds(encode_targets(y, n_rows=n_rows), features.cross_fit, int(seed)))


def check_each_row_is_of_a_network_without_it(features, X, y, **metadata):
    found = features.fit_transform(X, y, **metadata)
    weights = metadata.get("sample_weight", np.ones(len(X)))
    masks = masks_of(features, y, len(X))
    assert_array_equal(np.sum(masks, axis=0), 1)
    for held_out in masks:
        without = clone(features).set_params(cross_fit=None)
        without.fit(X, y, sample_weight=np.where(held_out, 0, weights))
        expected = without.transform(X)[held_out]
        assert_allclose(found[held_out], expected, atol=2e-4 * max(1, np.abs(expected).max()))
    # What `transform` reads has learned from all rows.
    plain = clone(features).set_params(cross_fit=None).fit(X, y, **metadata)
    assert_array_equal(features.transform(X), plain.transform(X))
    assert np.abs(found - features.transform(X)).max() > 1e-3


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:90], digits[1][:90]


def test_each_image_has_features_of_a_network_tuned_without_it(some):
    check_each_row_is_of_a_network_without_it(images_of(), *some)


def test_weights_count_within_the_folds(some):
    weights = np.random.RandomState(0).uniform(0, 2, len(some[0]))
    weights[:5] = 0
    check_each_row_is_of_a_network_without_it(images_of(), *some, sample_weight=weights)


def test_numbers_sequences_and_texts_are_cross_fitted_as_well(some, tmp_path):
    series = np.random.RandomState(0).normal(size=(40, 25)).cumsum(axis=1)
    strategy = FineTune("all", **{**HOW, "batch_size": 4})
    check_each_row_is_of_a_network_without_it(
        RNNSequenceFeatures(views="z", random_state=0, strategy=strategy, cross_fit=2),
        series,
        series[:, -1],
    )
    check_each_row_is_of_a_network_without_it(
        PretrainedTextFeatures(
            str(write_language(tmp_path / "bert")),
            engine="torch",
            strategy=clone(strategy),
            cross_fit=2,
        ),
        TEXTS,
        LABELS,
    )


def test_permuted_labels_leave_a_head_no_better_than_chance(digits):
    X = digits[0][:240]
    y = np.random.RandomState(0).permutation(np.arange(len(X)) % 2)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    tuned = {"epochs": 60, "early_stopping": False}
    scores = {}
    for cross_fit in (None, 4):
        features = images_of(cross_fit=cross_fit, **tuned).fit_transform(X, y)
        scores[cross_fit] = cross_val_score(head, features, y, cv=5).mean()
    # Three standard deviations of as many tosses of a coin. Below chance there is no such bound:
    # where a row is left out, its class is the rarer one among the others, which may be learned.
    assert scores[4] < 0.5 + 3 * np.sqrt(0.25 / len(X))
    assert scores[None] > 0.5 + 6 * np.sqrt(0.25 / len(X))


def test_what_is_frozen_costs_nothing(some):
    frozen = images_of().set_params(strategy="frozen")
    assert_array_equal(
        frozen.fit_transform(*some), clone(frozen).set_params(cross_fit=None).fit_transform(*some)
    )
    assert frozen.n_forward_ == len(some[0])
    Starts.count.clear()
    head = images_of("head", callbacks=[Starts()])
    assert_array_equal(head.fit_transform(*some), frozen.transform(some[0]))
    assert len(Starts.count) == 1


def test_fit_alone_trains_once(some):
    Starts.count.clear()
    features = images_of(callbacks=[Starts()]).fit(*some)
    assert len(Starts.count) == 1
    features.fit_transform(*some)
    assert len(Starts.count) == 1 + 1 + 3


def test_pipelines_and_searches_cross_fit(some):
    X, y = some
    pipeline = make_pipeline(images_of(epochs=1), LogisticRegression(max_iter=500))
    head = clone(pipeline[-1]).fit(clone(pipeline[0]).fit_transform(X, y), y)
    pipeline.fit(X, y)
    assert_allclose(pipeline[-1].coef_, head.coef_, atol=1e-4)
    grid = {"pretrainedcnnfeatures__cross_fit": [None, 2]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert search.predict(X).shape == y.shape


def test_names_of_columns_and_unreadable_images_stay(some):
    X, y = [*some[0]], some[1]
    X[4] = "no such file"
    features = images_of(epochs=1).set_params(on_error="nan").set_output(transform="pandas")
    with pytest.warns(UserWarning, match="of 90 images could not be read"):
        table = features.fit_transform(X, y)
    assert list(table.columns) == list(features.get_feature_names_out())
    assert np.flatnonzero(table.isna().any(axis=1)).tolist() == [4]


def test_folds_have_all_classes():
    y = np.repeat([0, 1, 2], [30, 12, 3])
    for held_out in folds(encode_targets(y, n_rows=len(y)), 3, 0):
        assert np.bincount(y[held_out]).tolist() == [10, 4, 1]


@pytest.mark.parametrize("cross_fit", [1, True, 2.5, "5"])
def test_another_number_of_folds_is_an_error(cross_fit, some):
    with pytest.raises(ValueError, match="cross_fit must be None or a number of folds from 2"):
        images_of(cross_fit=cross_fit).fit(*some)


def test_more_folds_than_rows_and_a_head_of_ones_own_are_errors(some):
    with pytest.raises(ValueError, match="cross_fit=91 needs as many labelled rows, got 90"):
        images_of(cross_fit=91, epochs=1).fit_transform(*some)
    features = images_of().set_params(strategy="frozen")
    with pytest.raises(ValueError, match=r"cross_fit=3 is for a head behind `fit_transform`"):
        FineTunedClassifier(features).fit(*some)
