"""PretrainedCNNFeatures copied, pickled and inside scikit-learn's machinery."""

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import joblib
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, FastICA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedCNNFeatures, load_backbone
from sktransfer.exceptions import WeightsMismatchError
from tests.helpers.networks import Projected, SmallCNN


def lite(**params) -> PretrainedCNNFeatures:
    how = {"image_size": 32, "layer": "blocks.3", "engine": "torch", **params}
    return PretrainedCNNFeatures(**how)


def own(**params) -> PretrainedCNNFeatures:
    how = {"backbone": SmallCNN, "random_state": 0, "engine": "torch", **params}
    return PretrainedCNNFeatures(**how)


def through_joblib(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


ROUND_TRIPS = {
    "pickle": lambda e: pickle.loads(pickle.dumps(e)),
    "joblib": through_joblib,
    "deepcopy": copy.deepcopy,
}


def variants(tmp_path):
    torch.manual_seed(3)
    module = SmallCNN()
    save_file(module.state_dict(), tmp_path / "net.safetensors")
    return {
        "named": lite(),
        "in OpenVINO": lite(engine="openvino", layer="blocks.1"),
        "random": PretrainedCNNFeatures(
            "resnet18", weights="random", image_size=32, engine="torch"
        ),
        "class": own(),
        "factory": own(backbone=partial(SmallCNN, n_classes=3)),
        "instance": own(backbone=module),
        "file": own(weights=tmp_path / "net.safetensors"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("trip", ROUND_TRIPS)
@pytest.mark.parametrize(
    "kind", ["named", "in OpenVINO", "random", "class", "factory", "instance", "file"]
)
def test_a_round_trip_keeps_the_features(kind, trip, colour, tmp_path):
    estimator = variants(tmp_path)[kind].fit(colour)
    expected = estimator.transform(colour)
    (tmp_path / "net.safetensors").unlink()  # what was loaded from a file travels inside
    copied = ROUND_TRIPS[trip](estimator)
    assert_allclose(copied.transform(colour), expected, atol=1e-6)
    assert copied.weights_sha256_ == estimator.weights_sha256_
    assert copied.get_feature_names_out().tolist() == estimator.get_feature_names_out().tolist()
    assert not copied.module_.training


@pytest.mark.parametrize("trip", ROUND_TRIPS)
@pytest.mark.parametrize("backbone", [Projected, Projected()], ids=["class", "instance"])
def test_what_is_in_no_state_dict_makes_the_round_trip_too(backbone, trip, colour):
    estimator = PretrainedCNNFeatures(backbone, layer="output", engine="torch").fit(colour)
    expected = estimator.transform(colour)
    if isinstance(backbone, Projected):
        backbone.projection.mul_(5)  # the user's own goes its own way after the fit
        backbone.linear = torch.nn.Linear(6, 4)
    assert_array_equal(estimator.transform(colour), expected)
    assert_allclose(ROUND_TRIPS[trip](estimator).transform(colour), expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18", "efficientnet_lite0"])
def test_a_checkpoint_with_other_classes_makes_the_round_trip(name, colour, tmp_path):
    module = load_backbone(name, "random").module
    state = dict(module.state_dict())
    head = "classifier" if name == "efficientnet_lite0" else "fc"
    for part in ("weight", "bias"):
        state[f"{head}.{part}"] = state[f"{head}.{part}"][:10].clone()
    torch.save(state, tmp_path / "ten.pth")
    estimator = PretrainedCNNFeatures(
        name, weights=tmp_path / "ten.pth", image_size=32, layer="output", engine="torch"
    ).fit(colour)
    (tmp_path / "ten.pth").unlink()
    expected = estimator.transform(colour)
    assert expected.shape == (6, 10)
    copied = pickle.loads(pickle.dumps(estimator))
    assert_allclose(copied.transform(colour), expected, atol=1e-5)


def test_an_unfitted_estimator_makes_the_round_trip_too():
    copied = pickle.loads(pickle.dumps(lite(pooling="max")))
    assert copied.get_params() == lite(pooling="max").get_params()
    assert not hasattr(copied, "module_")


def test_a_named_backbone_pickles_as_a_reference(digits):
    small = len(pickle.dumps(lite().fit(digits[0][:2])))
    assert small < 20_000  # the weights are 19 MB


def test_a_reference_is_verified_when_it_is_unpickled(digits):
    estimator = lite().fit(digits[0][:2])
    estimator.fitted_ = estimator.fitted_.replace(weights_sha256="0" * 64)
    data = pickle.dumps(estimator)
    with pytest.raises(WeightsMismatchError, match="expected 0000"):
        pickle.loads(data)


def test_an_estimator_fitted_on_a_missing_gpu_comes_back_on_the_cpu(digits):
    estimator = lite().fit(digits[0][:2])
    expected = estimator.transform(digits[0][:2])
    estimator.device = "cuda:7"  # as pickled on another machine
    estimator.fitted_ = estimator.fitted_.replace(device="cuda:7")
    data = pickle.dumps(estimator)
    with pytest.warns(UserWarning, match=r"device='cuda:7'.*using the CPU"):
        copied = pickle.loads(data)
    assert_array_equal(copied.transform(digits[0][:2]), expected)


def test_clone_copies_parameters_and_forgets_the_fit(colour):
    module = SmallCNN()
    estimator = PretrainedCNNFeatures(module, layer="conv", engine="torch").fit(colour)
    cloned = clone(estimator)
    assert cloned.backbone is not module  # an instance is deep-copied, as documented
    assert not hasattr(cloned, "module_")
    assert_array_equal(cloned.fit_transform(colour), estimator.transform(colour))


def test_fitting_leaves_the_users_own_instance_alone(colour):
    module = SmallCNN().train()
    PretrainedCNNFeatures(module, engine="torch").fit_transform(colour)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_threads_with_different_layers_share_a_network_without_mixing(engine, digits):
    X = digits[0][:48]
    layers = ["blocks.1", "blocks.2", "blocks.3", "blocks.4", "penultimate"] * 2
    how = {"engine": engine, "batch_size": 8}
    alone = [lite(layer=layer, **how).fit_transform(X) for layer in layers]
    estimators = [lite(layer=layer, **how).fit(X) for layer in layers]
    assert len({id(e.module_) for e in estimators}) == 1
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda e: e.transform(X), estimators))
    for found, expected in zip(together, alone, strict=True):
        assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        [StandardScaler(), PCA(20), LinearDiscriminantAnalysis()],
        [StandardScaler(), LinearDiscriminantAnalysis(n_components=9), LogisticRegression()],
        [
            StandardScaler(),
            FastICA(15, random_state=0, max_iter=1000, tol=1e-2),
            LogisticRegression(),
        ],
    ],
    ids=["PCA", "LDA", "ICA"],
)
def test_reduction_after_deep_features_learns_digits(steps, digits):
    X, X_test, y, y_test = train_test_split(*digits, train_size=300, test_size=300, random_state=0)
    assert make_pipeline(lite(), *steps).fit(X, y).score(X_test, y_test) > 0.9


@pytest.mark.slow
def test_grid_search_in_two_processes_finds_the_layer(digits):
    X, y = digits[0][:150], digits[1][:150]
    search = GridSearchCV(
        make_pipeline(lite(), StandardScaler(), LogisticRegression(max_iter=500)),
        {"pretrainedcnnfeatures__layer": ["blocks.3", "penultimate"]},
        cv=3,
        n_jobs=2,
    ).fit(X, y)
    assert search.best_params_ == {"pretrainedcnnfeatures__layer": "blocks.3"}
    alone = clone(search).set_params(n_jobs=None).fit(X, y)
    for key in ("split0_test_score", "split1_test_score", "split2_test_score"):
        assert_allclose(search.cv_results_[key], alone.cv_results_[key])


def test_grid_search_over_backbones_runs_each_of_them(colour):
    y = [0, 1] * 3
    search = GridSearchCV(
        make_pipeline(own(), LogisticRegression()),
        {"pretrainedcnnfeatures__backbone": [SmallCNN, partial(SmallCNN, n_classes=7)]},
        cv=2,
        refit=False,
    ).fit(colour, y)
    assert len(search.cv_results_["params"]) == 2
    widths = [
        clone(own()).set_params(backbone=backbone, layer="output").fit_transform(colour).shape[1]
        for backbone in (SmallCNN, partial(SmallCNN, n_classes=7))
    ]
    assert widths == [4, 7]


@pytest.mark.slow
def test_feature_union_fuses_two_backbones(digits):
    X, y = digits
    second = lite(backbone="resnet18", weights="random", layer="penultimate", random_state=0)
    union = FeatureUnion([("lite", lite()), ("resnet", second)])
    fused = union.fit_transform(X[:50])
    assert fused.shape == (50, 80 + 512)
    assert_allclose(fused[:, :80], lite().fit_transform(X[:50]), atol=1e-5)
    names = union.get_feature_names_out()
    assert names[0] == "lite__blocks.3_mean_0"
    assert names[-1] == "resnet__penultimate_511"
    pipeline = make_pipeline(union, StandardScaler(), LogisticRegression(max_iter=500))
    assert pipeline.fit(X[:200], y[:200]).score(X[200:300], y[200:300]) > 0.85


def test_column_transformer_takes_a_column_of_paths_beside_numbers(colour, tmp_path):
    from PIL import Image

    paths = [str(tmp_path / f"{i}.png") for i in range(6)]
    for path, image in zip(paths, colour, strict=True):
        Image.fromarray(image).save(path)
    frame = pd.DataFrame({"photo": paths, "price": range(6)})
    for column in ("photo", ["photo"]):
        mixed = ColumnTransformer([("image", own(), column), ("rest", "passthrough", ["price"])])
        found = mixed.fit_transform(frame)
        assert_allclose(found[:, :6], own().fit_transform(colour), atol=1e-6)
        assert found[:, 6].tolist() == list(range(6))
