"""ONNX models against the pipelines that they were made from."""

import json
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch import Tensor, nn

from sktransfer import (
    FineTune,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedCNNFeatures,
    RNNSequenceFeatures,
)
from sktransfer.backbones.registry import shared_backbone
from sktransfer.exceptions import ConversionError
from sktransfer.export import onnx_input, to_onnx
from sktransfer.export._comparison import compare
from sktransfer.export._network import PixelsToFeatures
from sktransfer.export._parts import parts_of
from sktransfer.networks.fingerprint import module_state
from tests.helpers.networks import SmallCNN


class Tokens(nn.Module):
    """Patches and a class token, mixed by one attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), tokens], 1)
        return self.head(self.block(tokens)[:, 0])


class Deciding(SmallCNN):
    """Its way depends on the pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.mean() > 0 else -x)


@pytest.fixture(scope="module")
def pictures():
    """40 images of uint8, 20 x 16 pixels, in three classes by their brightest channel."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (40, 20, 16, 3), dtype=np.uint8)
    classes = np.arange(40) % 3
    images[np.arange(40), :, :, classes] += 30
    return images, np.array(["blue", "green", "red"])[classes]


def network(backbone=SmallCNN, **how):
    return PretrainedCNNFeatures(
        backbone, random_state=0, engine="torch", **{"image_size": 16, **how}
    )


def run(model, estimator, X, dtype="uint8"):
    """Outputs of a model by name, for images one by one and for all at once."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    batch = onnx_input(estimator, X, dtype=dtype)
    names = [output.name for output in session.get_outputs()]
    assert {output.shape[0] for output in (*session.get_inputs(), *session.get_outputs())} == {"n"}
    single = dict(zip(names, session.run(None, {"images": batch[:1]}), strict=True))
    found = dict(zip(names, session.run(None, {"images": batch}), strict=True))
    assert all(len(found[name]) == len(X) and len(single[name]) == 1 for name in names)
    return found


HEADS = {
    "logistic regression": (2, StandardScaler(), LogisticRegression()),
    "logistic regression of three": (3, LogisticRegression()),
    "discriminant analysis": (2, LinearDiscriminantAnalysis()),
    "neighbours of components": (3, StandardScaler(), PCA(3), KNeighborsClassifier(3)),
    "forest": (3, RandomForestClassifier(8, random_state=0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_labels_and_probabilities_are_those_of_the_pipeline(pictures, name):
    images, labels = pictures
    n_classes, *steps = HEADS[name]
    rows = labels != "red" if n_classes == 2 else slice(None)
    pipeline = make_pipeline(network(), *steps).fit(images[rows], labels[rows])
    found = run(to_onnx(pipeline, X=images), pipeline, images)
    assert found["label"].tolist() == pipeline.predict(images).tolist()
    expected = pipeline.predict_proba(images)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("head", [SVC(), LinearSVC()], ids=str)
def test_without_probabilities_there_are_scores_of_each_class(pictures, head):
    images, labels = pictures
    two = labels != "red"
    pipeline = make_pipeline(network(), StandardScaler(), head).fit(images[two], labels[two])
    found = run(to_onnx(pipeline, X=images), pipeline, images)
    decision = pipeline.decision_function(images)
    expected = np.stack([-decision, decision], axis=1)
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-4, atol=1e-4)
    assert found["label"].tolist() == pipeline.predict(images).tolist()


@pytest.mark.slow
def test_numbers_are_those_of_the_pipeline(pictures):
    images, _ = pictures
    numbers = images.mean((1, 2, 3))
    search = GridSearchCV(
        make_pipeline(network(), "passthrough", Ridge()), {"ridge__alpha": [1e-3]}
    ).fit(images, numbers)
    found = run(to_onnx(search, X=images), search, images)
    np.testing.assert_allclose(found["prediction"][:, 0], search.predict(images), rtol=1e-4)


@pytest.mark.slow
def test_poolings_layers_and_tokens_of_networks_side_by_side_are_in_the_graph(pictures):
    images, _ = pictures
    several = {
        "both": network(layer=("conv", "penultimate"), pooling="mean+max"),
        "gem": network(layer="conv", pooling="gem", mean=0.5, std=(0.1, 0.2, 0.3)),
        "flat": network(layer="conv", pooling="flatten"),
        "token": network(Tokens, layer="block", pooling="cls"),
        "grid": network(Tokens, layer="block"),
    }
    pipeline = make_pipeline(FeatureUnion(list(several.items())), StandardScaler()).fit(images)
    found = run(to_onnx(pipeline), pipeline, images)
    np.testing.assert_allclose(found["features"], pipeline.transform(images), atol=1e-4)
    other = FeatureUnion([("a", network()), ("b", network(image_size=20))]).fit(images)
    with pytest.raises(ValueError, match="must take the same images to share one input"):
        to_onnx(make_pipeline(other))


@pytest.mark.slow
def test_floats_are_taken_as_floats(digits):
    images, labels = digits[0][:100], digits[1][:100]
    pipeline = make_pipeline(network(), LogisticRegression()).fit(images, labels)
    found = run(to_onnx(pipeline, dtype="float32"), pipeline, images[:20], dtype="float32")
    np.testing.assert_allclose(
        found["probabilities"], pipeline.predict_proba(images[:20]), atol=1e-5
    )
    with pytest.raises(ValueError, match="X holds floats, which dtype='uint8' would round"):
        onnx_input(pipeline, images)


@pytest.mark.slow
def test_real_weights_and_photographs_give_the_same_features_from_a_file(photos, tmp_path):
    features = PretrainedCNNFeatures(engine="torch", layer=("blocks.2", -1)).fit(photos)
    module = features.module_
    assert module is shared_backbone("efficientnet_lite0", None, torch.device("cpu")).module
    before = module_state(module)
    path = tmp_path / "network.onnx"
    to_onnx(features, path, X=photos)
    model = onnx.load(path)
    found = run(model, features, photos)
    expected = features.transform(photos)
    assert np.abs(found["features"] - expected).max() < 1e-4 * np.abs(expected).max()
    assert module_state(module) == before
    about = {each.key: each.value for each in model.metadata_props}
    assert about["input"] == "images: uint8, (n, 224, 224, 3), 0 to 255"
    assert json.loads(about["weights_sha256"]) == [features.weights_sha256_]
    assert json.loads(about["backbones"]) == ["efficientnet_lite0"]
    assert json.loads(about["layers"]) == [["blocks.2", "blocks.6"]]
    assert (about["resize"], about["interpolation"]) == ("crop", "bicubic")
    assert about["version of torch"] == version("torch")
    (images,) = model.graph.input
    shape = images.type.tensor_type.shape.dim
    assert [each.dim_param or each.dim_value for each in shape] == ["n", 224, 224, 3]


@pytest.mark.slow
def test_fine_tuned_classifiers_are_exported_with_their_head(pictures):
    images, labels = pictures
    two = labels != "red"
    strategy = FineTune("all", epochs=1)
    classifier = FineTunedClassifier(network(), strategy=strategy, random_state=0)
    classifier.fit(images[two], labels[two])
    model = to_onnx(classifier, X=images)
    found = run(model, classifier, images)
    np.testing.assert_allclose(found["probabilities"], classifier.predict_proba(images), atol=1e-5)
    assert found["label"].tolist() == classifier.predict(images).tolist()
    about = {each.key: each.value for each in model.metadata_props}
    assert json.loads(about["classes"]) == classifier.classes_.tolist()


@pytest.mark.slow
def test_fine_tuned_regressors_are_exported_with_their_head(pictures):
    images, _ = pictures
    numbers = images.mean((1, 2))  # of each channel
    regressor = FineTunedRegressor(network(), strategy="frozen", random_state=0)
    regressor.fit(images, numbers)
    found = run(to_onnx(regressor, X=images), regressor, images)
    np.testing.assert_allclose(found["prediction"], regressor.predict(images), rtol=1e-4)


@pytest.mark.slow
def test_predictions_of_fine_tuned_regressors_are_bounded_in_the_model_too(pictures):
    images, _ = pictures
    regressor = FineTunedRegressor(network(), strategy="frozen", random_state=0)
    for numbers in (images.mean((1, 2)), images.mean((1, 2, 3))):
        regressor.fit(images, numbers)
        middle = regressor.predict(images).mean(axis=0)
        regressor.coef_ = 50 * regressor.coef_
        regressor.intercept_ = 50 * regressor.intercept_ - 49 * middle
        found = run(to_onnx(regressor, X=images), regressor, images)["prediction"]
        expected = regressor.predict(images).reshape(len(images), -1)
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4)
        low, high = regressor.prediction_bounds_
        assert np.isclose(expected, low).any()
        assert np.isclose(expected, high).any()


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [2, 3])
def test_other_shares_of_the_classes_are_part_of_the_model(pictures, n_classes):
    images, labels = pictures
    rows = slice(None) if n_classes == 3 else labels != "red"
    prior = [0.9, 0.1] if n_classes == 2 else [0.05, 0.9, 0.05]
    classifier = FineTunedClassifier(network(), strategy="frozen", class_prior=prior)
    classifier.fit(images[rows], labels[rows])
    found = run(to_onnx(classifier, X=images), classifier, images)
    np.testing.assert_allclose(found["probabilities"], classifier.predict_proba(images), atol=1e-5)


@pytest.mark.slow
def test_what_cannot_be_exported_is_refused(pictures):
    images, labels = pictures

    class Own(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def predict(self, X):
            return self.classes_[np.zeros(len(X), int)]

        def predict_proba(self, X):
            return np.ones((len(X), len(self.classes_))) / len(self.classes_)

    with pytest.raises(NotFittedError):
        to_onnx(make_pipeline(network(), LogisticRegression()))
    with pytest.raises(ConversionError, match=r"cannot write the steps \['Own'\] as ONNX"):
        to_onnx(make_pipeline(network(), Own()).fit(images, labels))
    with pytest.raises(ConversionError, match="where .* are expected; end the pipeline with"):
        to_onnx(make_pipeline(network(), KMeans(2, n_init=1)).fit(images))
    with pytest.raises(ConversionError, match=r"torch cannot write the network.*x\.shape\[0\]"):
        to_onnx(network(Deciding).fit(images))
    with pytest.raises(TypeError, match="needs a fitted PretrainedCNNFeatures.*sequences and text"):
        to_onnx(RNNSequenceFeatures().fit(np.zeros((2, 5))))
    with pytest.raises(ValueError, match="dtype must be one of .*, got 'float64'"):
        to_onnx(network().fit(images), dtype="float64")
    tuned = FineTunedClassifier(network(), strategy="frozen", test_time_augmentation="flip")
    with pytest.raises(ValueError, match="set test_time_augmentation=None, got 'flip'"):
        to_onnx(tuned.fit(images, labels))
    several = np.stack([labels == "red", labels != "blue"], axis=1).astype(int)
    tuned = FineTunedClassifier(network(), strategy="frozen").fit(images, several)
    with pytest.raises(ValueError, match="was fitted to several labels"):
        to_onnx(tuned)


@pytest.mark.slow
def test_a_model_that_says_something_else_than_the_pipeline_is_refused(pictures):
    images, labels = pictures
    pipeline = make_pipeline(network(), LogisticRegression()).fit(images, labels)
    model = to_onnx(pipeline)
    parts = parts_of(pipeline)
    module, batch = PixelsToFeatures(parts.transformers), onnx_input(pipeline, images)
    compare(model, module, parts, batch)
    pipeline[-1].intercept_ += [0.1, 0, 0]
    with pytest.raises(ConversionError, match=r"probabilities differ .* \['LogisticRegression'\]"):
        compare(model, module, parts, batch)


def test_a_missing_package_is_named_with_its_cure(pictures, monkeypatch):
    features = network().fit(pictures[0])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'needs onnxscript: .*pip install "sktransfer\[onnx\]"'):
        to_onnx(features)
