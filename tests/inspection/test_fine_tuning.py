"""Histories of fine-tuning as curves."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import FineTune, FineTunedClassifier, PretrainedCNNFeatures
from sktransfer.inspection import FineTuningDisplay

HISTORY = [
    {"epoch": 1, "train_loss": 1.0, "valid_loss": 0.9, "dur": 2.0},
    {"epoch": 2, "train_loss": 0.6, "valid_loss": 0.5, "dur": 1.0},
    {"epoch": 3, "train_loss": 0.3, "valid_loss": 0.7, "dur": 1.0},
]


@pytest.fixture(scope="module")
def tuned(digits):
    """A classifier that held out rows, with a plan that notes learning rates."""
    strategy = FineTune("head", epochs=3, guard=False, early_stopping=True, schedule="plateau")
    features = PretrainedCNNFeatures(engine="torch", layer="blocks.1", image_size=32)
    return FineTunedClassifier(features, strategy=strategy, random_state=0).fit(
        digits[0][:150], digits[1][:150]
    )


def test_curves_are_those_of_the_history(tuned):
    display = FineTuningDisplay.from_estimator(tuned)
    assert set(display.lines_) == {"train_loss", "valid_loss", "event_lr"}
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), [epoch[name] for epoch in tuned.history_])
    losses = [epoch["valid_loss"] for epoch in tuned.history_]
    assert display.best_epoch_ == 1 + np.argmin(losses)
    assert display.best_.get_xdata() == [display.best_epoch_] * 2
    assert [ax.get_ylabel() for ax in display.axes_] == ["loss", "learning rate"]
    assert display.ax_ is display.axes_[0]


def test_the_lowest_validation_loss_is_marked():
    display = FineTuningDisplay(HISTORY).plot()
    assert display.best_epoch_ == 2
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["training", "validation", "lowest validation loss: 0.5"]
    assert display.ax_.get_xlabel() == "epoch (1.3 s each)"


def test_without_validation_there_is_no_best_epoch():
    display = FineTuningDisplay([{"train_loss": 1.0}, {"train_loss": 0.5}]).plot()
    assert display.best_epoch_ is display.best_ is None
    assert set(display.lines_) == {"train_loss"}
    assert display.ax_.get_xlabel() == "epoch"


def test_accuracies_and_rates_get_panels_of_their_own_and_gaps_stay_gaps():
    history = [{**epoch, "valid_acc": 0.5, "lr": 0.1} for epoch in HISTORY]
    del history[1]["valid_acc"]
    display = FineTuningDisplay(history).plot()
    assert [ax.get_ylabel() for ax in display.axes_] == ["loss", "accuracy", "learning rate"]
    np.testing.assert_array_equal(display.lines_["valid_acc"].get_ydata(), [0.5, np.nan, 0.5])


@pytest.mark.parametrize(
    ("losses", "yscale", "expected"),
    [
        ((1.0, 0.9), "auto", "linear"),
        ((1.0, 0.01), "auto", "log"),
        ((1.0, 0.0), "auto", "linear"),
        ((1.0, 0.01), "linear", "linear"),
        ((1.0, 0.9), "log", "log"),
    ],
)
def test_the_axis_is_logarithmic_where_losses_fall_far(losses, yscale, expected):
    display = FineTuningDisplay([{"train_loss": loss} for loss in losses]).plot(yscale=yscale)
    assert display.ax_.get_yscale() == expected


def test_epochs_are_whole_numbers():
    display = FineTuningDisplay(HISTORY).plot()
    display.figure_.draw_without_rendering()
    assert all(float(tick).is_integer() for tick in display.ax_.get_xticks())


@pytest.mark.slow
def test_pipelines_and_searches_are_looked_into(digits):
    images, labels = digits[0][:60], digits[1][:60]
    features = PretrainedCNNFeatures(
        layer="blocks.1",
        image_size=32,
        strategy=FineTune("head", epochs=1, guard=False),
        random_state=0,
    )
    search = GridSearchCV(
        make_pipeline(features, LogisticRegression(max_iter=1000)),
        {"logisticregression__C": [1.0]},
        cv=2,
    ).fit(images, labels)
    display = FineTuningDisplay.from_estimator(search)
    assert display.history == search.best_estimator_[0].history_


def test_it_is_drawn_on_given_axes():
    figure, (first, second) = plt.subplots(1, 2)
    place = second.get_position()
    display = FineTuningDisplay([{**epoch, "lr": 0.1} for epoch in HISTORY]).plot(
        second, linewidth=3
    )
    assert display.figure_ is figure
    assert len(display.axes_) == 2
    assert all(ax.get_position().x0 >= place.x0 - 1e-9 for ax in display.axes_)
    assert display.lines_["train_loss"].get_linewidth() == 3
    assert not first.lines


def test_what_cannot_be_drawn_is_refused_with_the_cure(digits):
    frozen = PretrainedCNNFeatures(engine="torch", image_size=32).fit(digits[0][:5])
    with pytest.raises(ValueError, match=r"the network is frozen; set strategy=FineTune\(...\)"):
        FineTuningDisplay.from_estimator(frozen)
    head = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(TypeError, match=r"needs a fitted FineTunedClassifier.*got LogisticRegr"):
        FineTuningDisplay.from_estimator(head)
    with pytest.raises(ValueError, match="history must hold a dict with 'train_loss'"):
        FineTuningDisplay([]).plot()
    with pytest.raises(ValueError, match="yscale must be 'auto', 'linear' or 'log', got 'symlog'"):
        FineTuningDisplay(HISTORY).plot(yscale="symlog")


def test_other_scores_get_panels_of_their_own():
    history = [
        {**epoch, "valid_accuracy": 0.5, "train_accuracy": 0.9, "f1_macro": 0.4, "done_best": True}
        for epoch in HISTORY
    ]
    display = FineTuningDisplay(history).plot()
    assert [ax.get_ylabel() for ax in display.axes_] == ["loss", "accuracy", "f1 macro"]
    assert set(display.lines_) == {
        "train_loss", "valid_loss", "valid_accuracy", "train_accuracy", "f1_macro"
    }  # fmt: skip
    np.testing.assert_array_equal(display.lines_["train_accuracy"].get_ydata(), [0.9] * 3)
    assert display.lines_["train_accuracy"].get_color() == display.lines_["train_loss"].get_color()


CURVE = {"rate": [1e-4, 1e-3, 1e-2], "loss": [1.0, 0.3, 5.0], "smoothed_loss": [1.0, 0.6, 3.0]}


def test_a_range_test_is_drawn_with_the_chosen_rate():
    display = FineTuningDisplay(HISTORY, CURVE, 1e-3).plot(kind="rate")
    assert set(display.lines_) == {"loss", "smoothed_loss"}
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), CURVE["rate"])
        np.testing.assert_array_equal(line.get_ydata(), CURVE[name])
    assert display.rate_line_.get_xdata() == [1e-3, 1e-3]
    assert display.ax_.get_xscale() == "log"
    assert display.best_epoch_ is None
    assert FineTuningDisplay(HISTORY, CURVE, 1e-3).plot().rate_line_ is None


def test_without_a_range_test_there_is_none_to_draw(tuned):
    with pytest.raises(ValueError, match=r"kind='rate' shows the range test of FineTune\(learn"):
        FineTuningDisplay.from_estimator(tuned, kind="rate")
    with pytest.raises(ValueError, match="kind must be one of"):
        FineTuningDisplay(HISTORY).plot(kind="rates")


def test_the_range_test_of_an_estimator_is_found(digits):
    strategy = FineTune("head", epochs=1, learning_rate="find", guard=False)
    features = PretrainedCNNFeatures(engine="torch", layer="blocks.1", image_size=32)
    classifier = FineTunedClassifier(features, strategy=strategy, random_state=0)
    classifier.fit(digits[0][:60], digits[1][:60])
    display = FineTuningDisplay.from_estimator(classifier, kind="rate")
    np.testing.assert_array_equal(
        display.lines_["loss"].get_ydata(), classifier.rate_curve_["loss"]
    )
    assert display.learning_rate == classifier.learning_rate_
