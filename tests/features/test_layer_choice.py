"""layer="auto": the choice, and what it costs."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils import estimator_checks as checks

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures, RNNSequenceFeatures
from sktransfer.features.layer_choice import choose_layer
from sktransfer.persistence import load, save
from tests.helpers.networks import SmallCNN

DIGITS = load_digits()
IMAGES, LABELS = DIGITS.images[:200] / 16, DIGITS.target[:200]
ZERO = {"alpha_1": 0, "alpha_2": 0, "lambda_1": 0, "lambda_2": 0}


def auto(**parameters):
    how = {"image_size": 32, "layer": "auto", "engine": "torch", **parameters}
    return PretrainedCNNFeatures(random_state=0, **how)


@pytest.fixture(scope="module")
def fitted():
    return auto().fit(IMAGES, LABELS)


@pytest.mark.slow
def test_a_middle_layer_is_chosen_for_digits_and_beats_the_last_one(fitted):
    assert fitted.layer_ in (("blocks.3",), ("blocks.4",))
    assert list(fitted.layer_scores_) == [*fitted.stages_, "penultimate"]
    accuracy = {}
    for layer in (*fitted.layer_, "penultimate"):
        features = auto(layer=layer)
        pipeline = make_pipeline(features, StandardScaler(), LogisticRegression(max_iter=1000))
        pipeline.fit(IMAGES, LABELS)
        accuracy[layer] = pipeline.score(DIGITS.images[200:600] / 16, DIGITS.target[200:600])
    assert accuracy[fitted.layer_[0]] > accuracy["penultimate"] + 0.1


@pytest.mark.slow
def test_the_scores_are_the_evidence_of_bayesian_ridge_on_standardised_features(fitted):
    for layer in ("blocks.1", "blocks.3"):
        features = auto(layer=layer).fit_transform(IMAGES)
        table = scale(features.astype(np.float64))
        evidence = [
            BayesianRidge(
                fit_intercept=False, compute_score=True, tol=1e-10, max_iter=5000, **ZERO
            ).fit(table, (label == LABELS).astype(float)).scores_[-1]
            for label in range(10)
        ]  # fmt: skip
        assert_allclose(fitted.layer_scores_[layer], np.mean(evidence) / 200, atol=1e-4)


def test_it_takes_one_pass_through_the_network():
    features = auto()
    made = features.fit_transform(IMAGES, LABELS)
    assert features.n_forward_ == 200
    assert_allclose(made, features.transform(IMAGES), atol=1e-5)
    assert made.shape == (200, len(features.get_feature_names_out()))


@pytest.mark.slow
def test_a_store_makes_it_one_pass_with_a_transform_and_other_folds(tmp_path):
    features = auto(cache=tmp_path)
    features.fit(IMAGES, LABELS).transform(IMAGES)
    assert features.n_forward_ == 200
    again = clone(features)
    again.fit(IMAGES[:100], LABELS[:100]).transform(IMAGES)
    assert again.n_forward_ == 0


def test_labels_are_needed_and_must_differ():
    with pytest.raises(
        ValueError, match=r"layer='auto' requires y.*pass y to fit, or name a layer"
    ):
        auto().fit(IMAGES)
    with pytest.raises(ValueError, match="at least 2 classes"):
        auto().fit(IMAGES[:9], np.ones(9))


def test_numbers_that_are_all_alike_are_refused():
    with pytest.raises(ValueError, match="y is the same in all rows"):
        auto().fit(IMAGES[:20], np.full(20, 0.3))


def test_a_failed_choice_leaves_the_estimator_as_it_was(fitted):
    features = clone(fitted).fit(IMAGES, LABELS)
    before = dict(vars(features))
    with pytest.raises(ValueError, match="requires y"):
        features.fit(IMAGES[:50])
    assert vars(features) == before


def test_a_later_fit_with_a_named_layer_forgets_the_scores(fitted):
    features = clone(fitted).fit(IMAGES[:50], LABELS[:50])
    features.set_params(layer="blocks.1").fit(IMAGES[:50])
    assert not hasattr(features, "layer_scores_")
    assert features.layer_ == ("blocks.1",)


@pytest.mark.slow
def test_a_row_of_weight_two_counts_as_two():
    weights = np.arange(60) % 3
    weighted = auto().fit(IMAGES[:60], LABELS[:60], sample_weight=weights)
    repeated = auto().fit(np.repeat(IMAGES[:60], weights, 0), np.repeat(LABELS[:60], weights))
    assert_allclose(
        [*weighted.layer_scores_.values()], [*repeated.layer_scores_.values()], rtol=1e-3
    )
    assert weighted.layer_ == repeated.layer_


@pytest.mark.slow
def test_numbers_choose_a_layer_too():
    brightness = IMAGES.mean(axis=(1, 2)) * 100 + 1000
    features = auto().fit(IMAGES, brightness)
    assert np.isfinite(list(features.layer_scores_.values())).all()
    shifted = auto().fit(IMAGES, brightness / 7 - 3)
    assert shifted.layer_ == features.layer_
    assert_allclose(
        [*shifted.layer_scores_.values()], [*features.layer_scores_.values()], rtol=1e-5
    )


@pytest.mark.slow
def test_labels_of_the_target_domain_have_no_say():
    domain = np.where(np.arange(200) < 120, 1, -1)
    wrong = np.where(domain > 0, LABELS, 9 - LABELS)
    one, other = (auto().fit(IMAGES, y, sample_domain=domain) for y in (LABELS, wrong))
    assert one.layer_scores_ == other.layer_scores_
    alone = auto().fit(IMAGES[:120], LABELS[:120])
    assert_allclose([*alone.layer_scores_.values()], [*one.layer_scores_.values()], rtol=1e-4)


def test_images_that_cannot_be_read_have_no_say(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    images = [*IMAGES[:60], broken]
    with pytest.warns(UserWarning, match="could not be read"):
        features = auto(on_error="nan").fit(images, LABELS[:61])
    alone = auto().fit(IMAGES[:60], LABELS[:60])
    assert features.layer_ == alone.layer_


@pytest.mark.slow
def test_tuning_goes_up_to_the_layer_that_was_chosen(fitted):
    strategy = FineTune("head", epochs=1, guard=False)
    classifier = FineTunedClassifier(auto(), strategy=strategy, random_state=0)
    classifier.fit(IMAGES, LABELS)
    assert classifier.features_.layer_ == fitted.layer_
    assert classifier.features_.layer_scores_ == fitted.layer_scores_


def test_of_stacked_recurrent_layers_one_is_chosen():
    X = np.random.RandomState(0).normal(size=(40, 30)).cumsum(1)
    y = np.repeat(["a", "b"], 20)
    X[20:] = np.sin(np.arange(30)) * 3 + X[20:] * 0.1
    how = {"weights": "random", "num_layers": 3, "hidden_size": 8, "random_state": 0}
    features = RNNSequenceFeatures(layer="auto", **how).fit(X, y)
    assert list(features.layer_scores_) == ["0", "1", "2"]
    (layer,) = features.layer_
    alone = RNNSequenceFeatures(layer=layer, **how).fit(X)
    assert_allclose(features.transform(X), alone.transform(X), rtol=1e-5, atol=1e-6)
    assert_array_equal(features.get_feature_names_out(), alone.get_feature_names_out())
    projected = RNNSequenceFeatures(layer="auto", output_dim=5, **how).fit(X, y)
    assert projected.layer_ == features.layer_
    assert projected.transform(X).shape == (40, 5)


def test_of_layers_alike_the_shallowest_is_taken_and_a_better_one_before_it():
    rng = np.random.RandomState(0)
    y = np.arange(90) % 3
    signal = np.eye(3)[y] + 0.3 * rng.normal(size=(90, 3))
    noise = rng.normal(size=(90, 3))
    features = np.hstack([noise, signal, signal, noise])
    columns = {name: slice(3 * i, 3 * i + 3) for i, name in enumerate("abcd")}
    chosen, scores = choose_layer(features, columns, y)
    assert chosen == "b"
    assert scores["b"] == scores["c"] > scores["a"]


CHECKED = {
    "images": PretrainedCNNFeatures(
        SmallCNN,
        image_shape=(1, -1),
        value_range=(-1e4, 1e4),
        layer="auto",
        random_state=0,
        engine="torch",  # which needs no conversion for each width
    ),
    "sequences": RNNSequenceFeatures(layer="auto", views="g", pooling="mean", random_state=0),
}


# Scales of series are learned from all rows, whatever their weight for the choice.
EXCUSED = {
    "images": {},
    "sequences": {
        "check_sample_weight_equivalence_on_dense_data": "weights are for labels, not for scales"
    },
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", CHECKED)
def test_check_estimator_passes_and_skips_nothing(name):
    results = checks.check_estimator(
        CHECKED[name], on_skip=None, on_fail=None, expected_failed_checks=EXCUSED[name]
    )
    other = [
        (r["check_name"], r["status"], repr(r["exception"])[-300:])
        for r in results
        if r["status"] != "passed" and r["check_name"] not in EXCUSED[name]
    ]
    assert other == []
    assert len(results) >= 40


def test_the_choice_is_kept_in_files_and_pickles(fitted, tmp_path):
    save(fitted, tmp_path / "features")
    for again in (load(tmp_path / "features"), pickle.loads(pickle.dumps(fitted))):
        assert again.layer_ == fitted.layer_
        assert again.layer_scores_ == fitted.layer_scores_
        assert_array_equal(again.transform(IMAGES[:9]), fitted.transform(IMAGES[:9]))
