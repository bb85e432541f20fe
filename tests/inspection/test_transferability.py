"""Rankings as bars, and rankings against accuracies."""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sktransfer.inspection import TransferabilityDisplay
from sktransfer.model_selection import BackboneRanking, RankedBackbone

RANKING = BackboneRanking(
    [
        RankedBackbone("first", 0.5, 1.0, 10, 5),
        RankedBackbone("second", 0.2, 1.0, 10, 5),
        RankedBackbone("third", 0.1, 1.0, 10, 5),
        RankedBackbone("fourth", -0.3, 1.0, 10, 5),
        RankedBackbone("broken", math.nan, 1.0, 0, 0, "OSError: no such file"),
    ]
)


def test_bars_have_the_scores_and_the_best_is_on_top():
    display = TransferabilityDisplay.from_ranking(RANKING, metric="LogME")
    widths = [bar.get_width() for bar in display.bars_]
    np.testing.assert_allclose(widths, [0.5, 0.2, 0.1, -0.3, 0.0])
    labels = display.ax_.get_yticklabels()
    assert [label.get_text() for label in labels] == [row.backbone for row in RANKING]
    heights = [
        display.ax_.transData.transform((0, bar.get_y() + bar.get_height() / 2))[1]
        for bar in display.bars_
    ]
    assert heights == sorted(heights, reverse=True)
    assert display.ax_.get_xlabel() == "LogME"
    assert display.scatter_ax_ is display.kendall_tau_ is None


def test_what_failed_is_grey_and_says_why():
    display = TransferabilityDisplay.from_ranking(RANKING)
    (reason,) = display.reasons_
    assert reason.get_text() == "failed: OSError: no such file"
    *good, broken = display.ax_.get_yticklabels()
    assert broken.get_color() == reason.get_color()
    assert all(label.get_color() != broken.get_color() for label in good)


def test_long_names_and_reasons_take_two_lines():
    name = "PretrainedCNNFeatures(image_size=32, layer='blocks.3', pooling='avg+max')"
    row = RankedBackbone(name, math.nan, 1.0, 0, 0, "ValueError: " + "words " * 40)
    good = RankedBackbone("good", 1.0, 1.0, 2, 2)
    display = TransferabilityDisplay.from_ranking(BackboneRanking([good, row]))
    label = display.ax_.get_yticklabels()[1].get_text()
    assert label == "PretrainedCNNFeatures(\nimage_size=32, ..."
    lines = display.reasons_[0].get_text().splitlines()
    assert len(lines) == 2
    assert lines[1].endswith(" ...")


def _tau(x, y):
    """Concordant less discordant pairs, by their definition; without ties."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    signs = [np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in pairs]
    return sum(signs) / len(pairs)


@pytest.mark.parametrize(
    "accuracies",
    [
        {"first": 0.8, "second": 0.9, "third": 0.7, "fourth": 0.75},
        [0.8, 0.9, 0.7, 0.75, math.nan],
        np.array([0.8, 0.9, 0.7, 0.75, 0.99]),  # of the broken one there is no score
    ],
)
def test_accuracies_are_compared_by_kendalls_tau(accuracies):
    display = TransferabilityDisplay.from_ranking(RANKING, accuracies=accuracies)
    scores, known = [0.5, 0.2, 0.1, -0.3], [0.8, 0.9, 0.7, 0.75]
    assert display.kendall_tau_ == pytest.approx(_tau(scores, known))
    np.testing.assert_allclose(display.scatter_.get_offsets(), np.c_[scores, known])
    assert display.scatter_ax_.get_title() == f"Kendall's τ = {_tau(scores, known):.2f}"
    # Points are known by their number in the ranking.
    assert [text.get_text() for text in display.scatter_ax_.texts] == ["1", "2", "3", "4"]
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels[0] == "first  (1)"


def test_it_is_drawn_on_given_axes():
    _, ax = plt.subplots()
    display = TransferabilityDisplay.from_ranking(RANKING, ax=ax, color="black")
    assert display.ax_ is ax
    assert display.bars_[0].get_facecolor() == (0, 0, 0, 1)


@pytest.mark.parametrize(("width", "beside"), [(10, True), (5, False)])
def test_points_stand_beside_the_bars_or_in_narrow_axes_below(width, beside):
    figure = plt.figure(figsize=(width, 5))
    ax = figure.add_axes((0, 0, 1, 1))
    display = TransferabilityDisplay(RANKING, accuracies=[0.8, 0.9, 0.7, 0.7, 0]).plot(ax)
    bars, points = display.ax_.get_position(), display.scatter_ax_.get_position()
    assert points.x0 > bars.x1 if beside else points.y1 < bars.y0
    assert display.figure_ is figure


def test_what_cannot_be_drawn_is_refused_with_the_rule():
    show = TransferabilityDisplay.from_ranking
    with pytest.raises(ValueError, match="must be what rank_backbones returns"):
        show(BackboneRanking())
    with pytest.raises(ValueError, match="must be what rank_backbones returns"):
        show([0.5, 0.2])
    with pytest.raises(ValueError, match=r"accuracies names \['fifth'\]"):
        show(RANKING, accuracies={"fifth": 0.5})
    with pytest.raises(ValueError, match="accuracies must hold 5 numbers"):
        show(RANKING, accuracies=[0.5, 0.4])
    with pytest.raises(ValueError, match="at least 2 backbones that have a score, got 1"):
        show(RANKING, accuracies={"first": 0.5, "broken": 0.4})
