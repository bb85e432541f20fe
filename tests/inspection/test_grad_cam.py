"""Grad-CAM against its closed form and torch's own gradients."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor, nn

from sktransfer import FineTune, FineTunedClassifier, FineTunedRegressor, PretrainedCNNFeatures
from sktransfer.backbones.registry import shared_backbone
from sktransfer.images.pooling import Activation
from sktransfer.inspection import FeatureMapDisplay, GradCAMDisplay
from sktransfer.inspection._head_gradients import head_of_pipeline
from sktransfer.inspection._maps import as_maps, grid_of
from sktransfer.networks.fingerprint import module_state
from tests.helpers.networks import ChannelsLast, InPlace, TwoStages
from tests.helpers.torch_states import AMBIENT

matplotlib.use("Agg")


class Averaged(nn.Module):
    """Two convolutions, the mean of the last map, and a linear classifier: made for CAM."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


class WithClassToken(nn.Module):
    """A small vision transformer that is read at its class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 16))
        layer = {"dim_feedforward": 32, "dropout": 0.0, "batch_first": True}
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, **layer) for _ in range(3))
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, 0])


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def pictures():
    """24 images of 16 x 16 pixels in three classes: a bright patch at one of three places."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 0.4, (24, 16, 16, 3)).astype(np.float32)
    labels = np.array(["left", "middle", "right"])[np.arange(24) % 3]
    for image, label in zip(images, labels, strict=True):
        at = {"left": 1, "middle": 6, "right": 11}[label]
        image[4:12, at : at + 4] += 0.5
    return images, labels


def network(backbone=Averaged, **how):
    return PretrainedCNNFeatures(backbone, random_state=0, engine="torch", image_size=16, **how)


def large(maps: Tensor, size=16) -> np.ndarray:
    how = {"size": (size, size), "mode": "bilinear", "align_corners": False}
    return nn.functional.interpolate(maps[:, None], **how)[:, 0].numpy()


@pytest.mark.slow
def test_where_the_last_map_is_averaged_before_a_linear_head_it_is_class_activation_mapping(
    pictures,
):
    images, labels = pictures
    pipeline = make_pipeline(
        network(layer="second"), StandardScaler(), LogisticRegression(C=100)
    ).fit(images, labels)
    features, scaler, head = (step for _, step in pipeline.steps)
    display = GradCAMDisplay.from_estimator(pipeline, images[:10], target="middle")
    assert display.layer == "second"
    weights = head.coef_[1] / scaler.scale_  # of the raw features
    with torch.no_grad():
        x = torch.from_numpy(images[:10]).permute(0, 3, 1, 2)
        maps = features.module_.second(features.module_.first(x))
    cam = torch.einsum("k,nkhw->nhw", torch.tensor(weights, dtype=torch.float32), maps)
    np.testing.assert_allclose(
        display.heatmaps, large(cam.relu() / (8 * 8)), rtol=1e-4, atol=1e-6 * cam.max()
    )
    assert display.heatmaps.max() > 0


def test_with_a_linear_head_of_torch_it_agrees_with_gradients_from_end_to_end(pictures):
    images, labels = pictures
    pipeline = make_pipeline(
        network(layer=("first", "penultimate"), pooling="gem"),
        StandardScaler(),
        LinearDiscriminantAnalysis(),
    ).fit(images, labels)
    features, scaler, head = (step for _, step in pipeline.steps)
    display = GradCAMDisplay.from_estimator(pipeline, images[:4], target="right", layer="first.0")

    module = features.module_
    linear = nn.Linear(14, 3)
    linear.weight.data = torch.tensor(head.coef_ / scaler.scale_, dtype=torch.float32)
    maps = module.first[0](torch.from_numpy(images[:4]).permute(0, 3, 1, 2)).requires_grad_()
    early = maps.relu()
    late = module.second[0](early).relu()
    gem = early.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
    score = linear(torch.cat([gem, late.mean((2, 3))], 1))[:, 2]
    (gradients,) = torch.autograd.grad(score.sum(), maps)
    weights = gradients.mean((2, 3), keepdim=True)
    expected = large((weights * maps).sum(1).relu().detach())
    np.testing.assert_allclose(display.heatmaps, expected, rtol=1e-3, atol=1e-5 * expected.max())
    assert expected.max() > 0


@pytest.mark.slow
def test_the_predicted_class_is_explained_unless_another_is_asked_for(pictures):
    images, labels = pictures
    pipeline = make_pipeline(network(layer="second"), LogisticRegression(C=100)).fit(images, labels)
    predicted = pipeline.predict(images[:6])
    by_default = GradCAMDisplay.from_estimator(pipeline, images[:6])
    by_name = GradCAMDisplay.from_estimator(pipeline, images[:6], target=predicted)
    np.testing.assert_array_equal(by_default.heatmaps, by_name.heatmaps)
    assert by_default.titles == predicted.tolist()
    with pytest.raises(ValueError, match="target='top' is no class; there are .*'middle'"):
        GradCAMDisplay.from_estimator(pipeline, images[:1], target="top")
    with pytest.raises(ValueError, match="one for each of the 3 images, got 2"):
        GradCAMDisplay.from_estimator(pipeline, images[:3], target=["left", "right"])


@pytest.mark.parametrize("kind", ["steps", "tuned"])
def test_two_classes_are_explained_with_opposite_signs(pictures, kind):
    images, labels = pictures
    images, labels = images[labels != "middle"], labels[labels != "middle"]
    if kind == "steps":
        estimator = make_pipeline(network(layer="second"), LogisticRegression(C=1000))
        estimator.fit(images, labels)
        weights = estimator[-1].coef_[0]
        module = estimator[0].module_
    else:
        estimator = FineTunedClassifier(network(layer="second"), strategy="frozen", random_state=0)
        estimator.fit(images, labels)
        weights = estimator.coef_[1] - estimator.coef_[0]
        module = estimator.features_.module_
    with torch.no_grad():
        maps = module.second(module.first(torch.from_numpy(images[:3]).permute(0, 3, 1, 2)))
    cam = torch.einsum("k,nkhw->nhw", torch.tensor(weights, dtype=torch.float32), maps) / 64
    for target, sign in (("right", 1), ("left", -1)):
        found = GradCAMDisplay.from_estimator(estimator, images[:3], target=target).heatmaps
        expected = large((sign * cam).relu())
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * abs(cam).max())


def test_fine_tuned_regressors_and_searches_are_explained(pictures):
    images, labels = pictures
    numbers = np.searchsorted(["left", "middle", "right"], labels).astype(float)
    strategy = FineTune("all", epochs=1)
    tuned = FineTunedRegressor(network(layer="second"), strategy=strategy, random_state=0)
    tuned.fit(images, numbers)
    display = GradCAMDisplay.from_estimator(tuned, images[:2], layer="first")
    assert display.heatmaps.shape == (2, 16, 16)
    assert display.titles == [f"{value:.3g}" for value in tuned.predict(images[:2])]
    search = GridSearchCV(make_pipeline(network(layer="second"), Ridge()), {"ridge__alpha": [1]})
    search.fit(images, numbers)
    found = GradCAMDisplay.from_estimator(search, images[:2])
    best = GradCAMDisplay.from_estimator(search.best_estimator_, images[:2])
    np.testing.assert_array_equal(found.heatmaps, best.heatmaps)


HEADS = {
    "svc": SVC(),
    "naive Bayes": GaussianNB(var_smoothing=0.1),
    "perceptron": MLPClassifier((4,), activation="tanh", solver="lbfgs", alpha=0.1, random_state=0),
}


@pytest.mark.parametrize("name", HEADS)
def test_gradients_of_a_curved_head_are_those_of_small_differences(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    y = np.digitize(X[:, 0] + X[:, 1] ** 2, [0, 1.5])
    head = head_of_pipeline(make_pipeline(StandardScaler(), HEADS[name]).fit(X, y))
    rows, columns = X[:10], np.arange(10) % 3
    found = head.gradients(rows, columns)
    step = 1e-6
    for j in range(5):
        move = step * np.eye(5)[j]
        slopes = (head.scores(rows + move) - head.scores(rows - move)) / (2 * step)
        np.testing.assert_allclose(found[:, j], slopes[np.arange(10), columns], atol=1e-4)


def test_a_jump_of_a_score_is_not_taken_for_a_slope():
    class Jumping(Ridge):
        def predict(self, X):
            return super().predict(X) + (X[:, 0] > 1)

    X = np.random.default_rng(0).normal(size=(50, 3))
    model = Jumping(alpha=1e-9).fit(X, X @ [1.0, 2.0, 3.0])
    head = head_of_pipeline(make_pipeline(model))
    beside = np.array([[1 - 1e-6, 0.5, 0.5], [1 + 1e-6, 0.5, 0.5]])
    np.testing.assert_allclose(head.gradients(beside, np.zeros(2, int)), [[1, 2, 3]] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    "head", [RandomForestClassifier(5, random_state=0), KNeighborsClassifier(3)]
)
def test_a_head_without_slope_is_refused_and_told_which_have_one(pictures, head):
    images, labels = pictures
    pipeline = make_pipeline(network(layer="second"), head).fit(images, labels)
    with pytest.raises(ValueError, match="does not change with the features.*LogisticRegression"):
        GradCAMDisplay.from_estimator(pipeline, images[:2])


def test_votes_between_pairs_of_classes_are_no_score_of_a_class(pictures):
    images, labels = pictures
    four = np.where(np.arange(24) % 8 == 0, "other", labels)
    pipeline = make_pipeline(network(layer="second"), SVC(decision_function_shape="ovo"))
    with pytest.raises(TypeError, match="6 columns for 4 classes.*'ovr'"):
        GradCAMDisplay.from_estimator(pipeline.fit(images, four), images[:1])


def test_what_holds_no_network_or_no_head_is_refused(pictures):
    images, _ = pictures
    with pytest.raises(TypeError, match="estimator must be a fitted PretrainedCNNFeatures, a Pipe"):
        GradCAMDisplay.from_estimator(LogisticRegression(), images)
    features = network().fit(images)
    with pytest.raises(TypeError, match="must end in a fitted classifier or regressor"):
        GradCAMDisplay.from_estimator(features, images)
    with pytest.raises(TypeError, match="must end in a fitted classifier.*its last step is Standa"):
        GradCAMDisplay.from_estimator(make_pipeline(features, StandardScaler()).fit(images), images)


def test_layers_that_are_deeper_or_no_maps_are_refused(pictures):
    images, labels = pictures
    pipeline = make_pipeline(network(layer="first"), LogisticRegression()).fit(images, labels)
    with pytest.raises(ValueError, match=r"read from \['first'\], do not come through.*'second'"):
        GradCAMDisplay.from_estimator(pipeline, images[:1], layer="second")
    with pytest.raises(ValueError, match=r"no map of several positions; .* \['second'\]"):
        GradCAMDisplay.from_estimator(pipeline, images[:1], layer="penultimate")
    with pytest.raises(ValueError, match="did you mean 'first'"):
        GradCAMDisplay.from_estimator(pipeline, images[:1], layer="fist")


def test_where_only_the_class_token_is_read_the_stage_before_the_last_is_explained(pictures):
    images, labels = pictures
    features = network(WithClassToken)
    pipeline = make_pipeline(features, LogisticRegression()).fit(images, labels)
    display = GradCAMDisplay.from_estimator(pipeline, images[:2])
    assert display.layer == "blocks.1"  # patches of the last block reach nothing
    assert display.heatmaps.shape == (2, 16, 16)
    with pytest.raises(ValueError, match="do not come through the positions of 'blocks.2'"):
        GradCAMDisplay.from_estimator(pipeline, images[:2], layer="blocks.2")


def test_an_output_that_the_next_layer_overwrites_is_explained_as_it_was(pictures):
    images, labels = pictures
    pipeline = make_pipeline(network(InPlace), LogisticRegression(C=100)).fit(images, labels)
    display = GradCAMDisplay.from_estimator(pipeline, images[:3], target="left", layer="conv")
    module = pipeline[0].module_
    maps = module.conv(torch.from_numpy(images[:3]).permute(0, 3, 1, 2)).requires_grad_()
    weights = torch.tensor(pipeline[-1].coef_[0], dtype=torch.float32)
    (maps.relu().mean((2, 3)) @ weights).sum().backward()
    alpha = maps.grad.mean((2, 3), keepdim=True)
    expected = large((alpha * maps).sum(1).relu().detach())
    np.testing.assert_allclose(display.heatmaps, expected, rtol=1e-4, atol=1e-6)


def test_maps_with_their_channels_last_are_explained(pictures):
    images, labels = pictures
    pipeline = make_pipeline(network(ChannelsLast, layer="block"), LogisticRegression(C=100))
    pipeline.fit(images, labels)
    display = GradCAMDisplay.from_estimator(pipeline, images[:2], target="left")
    module = pipeline[0].module_
    x = torch.from_numpy(images[:2]).permute(0, 3, 1, 2)
    with torch.no_grad():
        maps = module.block(module.conv(x).permute(0, 2, 3, 1))
    weights = torch.tensor(pipeline[-1].coef_[0], dtype=torch.float32)
    expected = (maps @ weights).relu().numpy() / 256
    np.testing.assert_allclose(display.heatmaps, expected, rtol=1e-3, atol=1e-6)


def test_tokens_lie_row_by_row_on_a_grid_of_the_aspect_ratio_of_the_image():
    activation = Activation((1 + 2 * 3, 5), "tokens", prefix_tokens=1, class_token=True)
    assert grid_of(activation, (32, 48)) == (2, 3)
    values = torch.arange(2 * 7 * 5).reshape(2, 7, 5)
    maps = as_maps(values, activation, (32, 48))
    assert maps.shape == (2, 5, 2, 3)
    assert maps[1, 4, 1, 2] == values[1, 6, 4]
    assert maps[1, 4, 0, 1] == values[1, 2, 4]
    assert grid_of(Activation((7, 5), "tokens"), (32, 32)) is None
    flat = Activation((5, 6), "channels_first")
    assert as_maps(torch.zeros(2, 5, 6), flat, (20, 30)).shape == (2, 5, 2, 3)


@pytest.mark.slow
def test_a_shared_network_is_left_as_it_was_and_real_weights_find_the_object(photos):
    palace, flower = (np.asarray(photo) for photo in photos)
    rng = np.random.RandomState(0)
    corners = [(rng.randint(0, 120), rng.randint(0, 300), rng.randint(200, 300)) for _ in range(8)]
    crops = [image[i : i + s, j : j + s] for image in (palace, flower) for i, j, s in corners]
    pipeline = make_pipeline(
        PretrainedCNNFeatures(engine="torch", resize="squash"),
        StandardScaler(),
        LogisticRegression(),
    ).fit(crops, ["palace"] * 8 + ["flower"] * 8)
    module = pipeline[0].module_
    assert module is shared_backbone("efficientnet_lite0", None, torch.device("cpu")).module
    before, n_forward = module_state(module), pipeline[0].n_forward_
    both = np.concatenate([palace[:, :320], flower[:, 160:480]], axis=1)
    found = {
        target: GradCAMDisplay.from_estimator(pipeline, [both], target=target).heatmaps[0]
        for target in ("palace", "flower")
    }
    left, right = found["palace"][:, :112].sum(), found["palace"][:, 112:].sum()
    assert left > 2 * right
    left, right = found["flower"][:, :112].sum(), found["flower"][:, 112:].sum()
    assert right > 2 * left
    assert module_state(module) == before
    assert pipeline[0].n_forward_ == n_forward
    assert not any(p.requires_grad or p.grad is not None for p in module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert not module.training


@pytest.mark.slow
def test_images_are_drawn_in_pairs_and_within_given_axes(pictures):
    images, _ = pictures
    heatmaps = np.ones((4, 16, 16))
    heatmaps[3] = 0
    display = GradCAMDisplay(images[:4], heatmaps, titles=list("abcd")).plot(n_columns=2)
    assert display.ax_.shape == (4, 2)
    assert [ax.get_title("left") for ax in display.ax_[:, 0]] == list("abcd")
    assert len(display.overlays_) == 4
    assert display.overlays_[0].get_alpha().max() > 0
    assert display.overlays_[3].get_alpha().max() == 0  # nothing speaks for it
    _, ax = plt.subplots()
    assert display.plot(ax).figure_ is ax.figure
    with pytest.raises(ValueError, match=r"heatmaps of .*got \(4, 16, 16, 3\) and \(2, 16, 16\)"):
        GradCAMDisplay(images[:4], heatmaps[:2]).plot()
    with pytest.raises(ValueError, match="n_columns == 0, must be >= 1"):
        display.plot(n_columns=0)
    with pytest.raises(ValueError, match="one for each of the 4 images, got 1"):
        GradCAMDisplay(images[:4], heatmaps, titles=["a"]).plot()


def test_features_in_data_frames_reach_the_head_by_name(pictures):
    images, labels = pictures
    pipeline = make_pipeline(network(layer="second"), StandardScaler(), LogisticRegression())
    plain = GradCAMDisplay.from_estimator(pipeline.fit(images, labels), images[:2])
    pipeline.set_output(transform="pandas").fit(images, labels)
    framed = GradCAMDisplay.from_estimator(pipeline, images[:2])
    np.testing.assert_allclose(plain.heatmaps, framed.heatmaps, rtol=1e-4, atol=1e-7)


def test_names_with_dollars_are_drawn_as_they_are_and_long_ones_are_cut(pictures):
    images, _ = pictures
    titles = ["$\\frac$ a_b", "a $x_0$", f"{'long ' * 20}b"]
    display = GradCAMDisplay(images[:3], np.ones((3, 16, 16)), titles=titles).plot()
    display.figure_.draw_without_rendering()
    shown = [ax.get_title("left") for ax in display.ax_[:, 0]]
    assert shown[:2] == titles[:2]
    assert len(shown[2]) <= 40
    assert shown[2].startswith("long long")
    assert not any(ax._left_title.get_parse_math() for ax in display.ax_[:, 0])
    assert display.titles == titles


def test_one_image_is_no_batch(digits):
    images, labels = digits[0][:20], digits[1][:20] > 4
    pipeline = make_pipeline(network(layer="second"), LogisticRegression()).fit(images, labels)
    with pytest.raises(ValueError, match=r"X must be a batch of images, got one of shape \(8, 8\)"):
        GradCAMDisplay.from_estimator(pipeline, images[0])
    assert GradCAMDisplay.from_estimator(pipeline, images[:1]).heatmaps.shape == (1, 16, 16)


@pytest.mark.parametrize("ambient", AMBIENT)
def test_heatmaps_and_maps_are_the_same_under_any_state_of_torch(ambient, digits):
    X, y = digits[0][:12], digits[1][:12] % 2
    features = PretrainedCNNFeatures(
        TwoStages, layer="second", image_size=16, engine="torch", random_state=0
    )
    pipeline = make_pipeline(features, LogisticRegression()).fit(X, y)

    def shown():
        maps = FeatureMapDisplay.from_estimator(pipeline, X[0]).maps
        return GradCAMDisplay.from_estimator(pipeline, X[:2], target=1).heatmaps, maps

    expected = shown()
    with AMBIENT[ambient]():
        found = shown()
    for one, right in zip(found, expected, strict=True):
        assert_allclose(one, right, rtol=1e-4, atol=1e-6)
