"""What all displays rest on: a cheap import, axes in the right place, colours."""

import itertools
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

import sktransfer.inspection
from sktransfer.inspection import (
    EmbeddingDisplay,
    FineTuningDisplay,
    LayerProbeDisplay,
    ShiftDisplay,
    TransferabilityDisplay,
)
from sktransfer.inspection._plotting import (
    axes_for,
    axes_grid,
    class_style,
    legend_beside,
    secondary_colour,
    short_names,
    size_in_inches,
    text_colour,
)
from sktransfer.model_selection import BackboneRanking, RankedBackbone


def test_importing_displays_loads_neither_matplotlib_nor_torch():
    code = (
        "import sys; import sktransfer.inspection; print({'matplotlib', 'torch'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.slow
def test_transfer_between_domains_is_drawn_without_torch():
    code = "import sys; from sktransfer.inspection import ShiftDisplay, TransferabilityDisplay"
    code += "; print({'matplotlib', 'torch'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_public_names_are_listed_and_a_wrong_one_is_an_attribute_error():
    assert set(sktransfer.inspection.__all__) <= set(dir(sktransfer.inspection))
    assert set(sktransfer.inspection.__all__) == set(sktransfer.inspection._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sktransfer.inspection.nothing


RANKING = BackboneRanking([RankedBackbone("resnet18", 0.5, 2.0, 512, 100)])
DISPLAYS = {
    "LayerProbeDisplay.plot": lambda: LayerProbeDisplay(["a"], [[0.5]]).plot(),
    "LayerProbeDisplay.from_estimator": lambda: LayerProbeDisplay.from_estimator(None, None, None),
    "EmbeddingDisplay.plot": lambda: EmbeddingDisplay([[0, 1]]).plot(),
    "EmbeddingDisplay.from_estimator": lambda: EmbeddingDisplay.from_estimator(None, None),
    "EmbeddingDisplay.from_features": lambda: EmbeddingDisplay.from_features(None),
    "ShiftDisplay.plot": lambda: ShiftDisplay([[0, 1]], [True], None).plot(),
    "ShiftDisplay.from_estimator": lambda: ShiftDisplay.from_estimator(
        None, None, sample_domain=None
    ),
    "ShiftDisplay.from_features": lambda: ShiftDisplay.from_features(None, sample_domain=None),
    "TransferabilityDisplay.plot": lambda: TransferabilityDisplay(RANKING).plot(),
    "TransferabilityDisplay.from_ranking": lambda: TransferabilityDisplay.from_ranking(RANKING),
    "FineTuningDisplay.plot": lambda: FineTuningDisplay([{"train_loss": 1.0}]).plot(),
    "FineTuningDisplay.from_estimator": lambda: FineTuningDisplay.from_estimator(None),
}


@pytest.mark.parametrize("name", DISPLAYS)
def test_without_matplotlib_a_display_says_what_to_install_before_anything_else(name, without):
    without("matplotlib")
    with pytest.raises(ImportError) as error:
        DISPLAYS[name]()
    assert str(error.value) == f'{name} needs matplotlib: run `pip install "sktransfer[plot]"`'


def test_given_axes_are_used_and_else_a_figure_is_made():
    _, ax = plt.subplots()
    assert axes_for("test", ax) is ax
    made = axes_for("test", figsize=(3, 2))
    assert made.figure is not ax.figure
    assert tuple(made.figure.get_size_inches()) == (3, 2)


@pytest.mark.parametrize("how", ["subplot", "free"])
def test_a_grid_stays_within_the_axes_it_replaces(how):
    figure = plt.figure()
    ax = figure.add_subplot(2, 2, 4) if how == "subplot" else figure.add_axes((0.5, 0.2, 0.4, 0.3))
    box = ax.get_position()
    grid = axes_grid("test", 2, 3, ax, width_ratios=(1, 1, 2))
    assert grid.shape == (2, 3)
    assert not ax.axison
    for cell in grid.ravel():
        place = cell.get_position()
        assert cell.figure is figure
        assert box.x0 - 1e-9 <= place.x0 < place.x1 <= box.x1 + 1e-9
        assert box.y0 - 1e-9 <= place.y0 < place.y1 <= box.y1 + 1e-9
    widths = [cell.get_position().width for cell in grid[0]]
    assert widths[2] == pytest.approx(2 * widths[0])


def test_a_size_is_in_inches():
    ax = plt.figure(figsize=(8, 4), dpi=50).add_axes((0, 0, 0.5, 0.25))
    assert size_in_inches(ax) == pytest.approx((4, 1))


def test_forty_classes_look_different_and_neighbours_differ_in_shape():
    styles = [class_style(number) for number in range(40)]
    assert len(set(styles)) == 40
    assert all(a[1] != b[1] for a, b in itertools.pairwise(styles))


def _contrast(first, second):
    """By WCAG 2.1: 4.5 suffices for text."""

    def luminance(colour):
        channels = np.array(colour[:3])
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    light, dark = sorted([luminance(first), luminance(second)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("style", ["default", "dark_background", "ggplot", "Solarize_Light2"])
def test_text_and_greys_can_be_read_on_light_and_dark_grounds(style):
    with plt.style.context(style):
        ax = axes_for("test")
        ground = ax.get_facecolor()
        assert _contrast(text_colour(ax), ground) > 7
        assert _contrast(secondary_colour(ax), ground) > 3.5


def test_a_transparent_ground_is_that_of_the_figure():
    figure = plt.figure(facecolor="black")
    ax = figure.add_subplot(facecolor="none")
    assert text_colour(ax)[0] > 0.9


def test_a_legend_stands_beside_the_axes_only_where_the_layout_makes_room():
    without_overlap = axes_for("test")
    without_overlap.plot([0, 1], label="a")
    legend = legend_beside(without_overlap)
    without_overlap.figure.draw_without_rendering()
    assert legend.get_window_extent().x0 >= without_overlap.get_window_extent().x1
    assert legend.get_window_extent().x1 <= without_overlap.figure.bbox.x1
    _, tight = plt.subplots()
    tight.plot([0, 1], label="a")
    legend = legend_beside(tight)
    tight.figure.draw_without_rendering()
    assert legend.get_window_extent().x1 <= tight.get_window_extent().x1


def test_short_names_have_few_letters_and_are_the_same_only_where_the_names_are():
    assert short_names(["a", "b" * 24, "a"]) == ["a", "b" * 24, "a"]
    assert short_names(["a" * 25, "b"]) == ["a" * 23 + "\N{HORIZONTAL ELLIPSIS}", "b"]
    ends = [f"{'long ' * 10}{end}" for end in ("north", "south")]
    middles = [f"{'x' * 27}{middle}{'y' * 27}" for middle in "abcdefghijkl"]
    for names in (ends, middles, [*ends, *middles, ends[0]]):
        short = short_names(names)
        assert max(map(len, short)) <= 24
        assert len({*short}) == len({*names})
    assert [name[-5:] for name in short_names(ends)] == ["north", "south"]
    assert short_names([*ends, ends[0]])[2] == short_names(ends)[0]
