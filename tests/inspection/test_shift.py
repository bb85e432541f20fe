"""The picture of a gap shows what `diagnose_shift` finds."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer.inspection import ShiftDisplay
from sktransfer.metrics import diagnose_shift


@pytest.fixture(scope="module")
def domains():
    """Features of 60 source and 40 target rows, mixed, with domains and labels."""
    rng = np.random.RandomState(0)
    domain = rng.permutation(np.repeat([2, -1], [60, 40]))
    y = np.arange(100) % 2
    X = rng.normal(size=(100, 4)) + 2.0 * y[:, None]
    X[domain < 0] += [1.5, 0, 0, 0]
    return X, domain, y


@pytest.fixture(scope="module")
def report(domains):
    X, domain, y = domains
    return diagnose_shift(X[domain > 0], X[domain < 0], y[domain > 0], random_state=0)


def test_the_report_is_that_of_the_diagnosis_and_the_plane_that_of_both_domains(domains, report):
    X, domain, y = domains
    display = ShiftDisplay.from_features(X, sample_domain=domain, y=y, random_state=0)
    assert display.report == report
    points = PCA(2).fit_transform(StandardScaler().fit_transform(X))
    np.testing.assert_allclose(display.points, points, atol=1e-9)
    np.testing.assert_allclose(display.source_.get_offsets(), points[domain > 0], atol=1e-9)
    np.testing.assert_allclose(display.target_.get_offsets(), points[domain < 0], atol=1e-9)
    texts = [text.get_text() for text in display.legend_.get_texts()]
    assert texts == ["source (60)", "target (40)"]


def test_labels_of_the_target_are_not_used(domains, report):
    X, domain, y = domains
    hidden = np.where(domain > 0, y, -1)
    display = ShiftDisplay.from_features(X, sample_domain=domain, y=hidden, random_state=0)
    assert display.report == report


def test_figures_stand_beside_the_points(domains, report):
    X, domain, _ = domains
    display = ShiftDisplay(X[:, :2], domain > 0, report).plot()
    texts = {name: text.get_text() for name, text in display.texts_.items()}
    assert texts["proxy_a_distance"] == f"{report.proxy_a_distance:.2f}"
    assert texts["outside_support"] == f"{report.outside_support:.0%}"
    assert texts["mmd"] == f"{report.mmd:.3g}"
    assert texts["advice"].replace("\n", " ") == report.advice
    assert texts["kind"] == f"{report.kind} shift"
    display.figure_.draw_without_rendering()
    assert display.report_ax_.get_position().x0 > display.ax_.get_position().x1
    bounds = display.figure_.bbox
    for text in display.texts_.values():
        box = text.get_window_extent()
        assert bounds.x0 <= box.x0 < box.x1 <= bounds.x1
        assert bounds.y0 <= box.y0 < box.y1 <= bounds.y1


def test_a_missing_figure_is_left_out_and_a_vanishing_one_is_bounded(domains, report):
    X, domain, _ = domains
    changed = dataclasses.replace(report, label_pvalue=None, pvalue=1e-80)
    display = ShiftDisplay(X[:, :2], domain > 0, changed).plot()
    assert "label_pvalue" not in display.texts_
    assert display.texts_["pvalue"].get_text() == "< 1e-12"


@pytest.mark.parametrize(
    ("size", "place"), [((9, 4), "beside"), ((4, 6), "below"), ((4, 3), "title")]
)
def test_in_given_axes_figures_go_where_there_is_room(domains, report, size, place):
    X, domain, _ = domains
    figure = plt.figure(figsize=size)
    ax = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    display = ShiftDisplay(X[:, :2], domain > 0, report).plot(ax, s=4)
    assert display.figure_ is figure
    assert display.source_.get_sizes() == [4]
    if place == "title":
        assert display.ax_ is ax
        assert display.report_ax_ is None
        title = f"{report.kind} shift, proxy A-distance {report.proxy_a_distance:.2f}"
        assert ax.get_title(loc="left") == title
        return
    points, figures = display.ax_.get_position(), display.report_ax_.get_position()
    assert figures.x0 > points.x1 if place == "beside" else figures.y1 < points.y0


def test_figures_can_be_left_out(domains, report):
    X, domain, _ = domains
    display = ShiftDisplay(X[:, :2], domain > 0, report).plot(show_report=False)
    assert display.report_ax_ is None
    assert display.texts_ == {}
    assert len(display.figure_.axes) == 1


def test_a_transformer_gives_the_features_and_unreadable_rows_are_left_out(domains):
    X, domain, y = domains
    broken = X.copy()
    broken[3] = np.nan
    double = FunctionTransformer(lambda Z: 2 * Z)
    display = ShiftDisplay.from_estimator(
        double, broken, sample_domain=domain, y=y, random_state=0, show_report=False
    )
    rows = np.delete(np.arange(100), 3)
    expected = ShiftDisplay.from_features(
        2 * X[rows], sample_domain=domain[rows], y=y[rows], random_state=0
    )
    assert display.report == expected.report
    np.testing.assert_allclose(display.points, expected.points)


def test_what_cannot_be_drawn_is_refused_with_the_rule(domains, report):
    X, domain, y = domains
    with pytest.raises(
        ValueError, match="sample_domain must hold 100 numbers, positive for source"
    ):
        ShiftDisplay.from_features(X, sample_domain=np.zeros(100))
    for sign, missing in (
        (1, r"no target rows in sample_domain \(negative\), of 100 rows"),
        (-1, r"no source rows in sample_domain \(positive\), of 100 rows"),
    ):
        with pytest.raises(ValueError, match=missing):
            ShiftDisplay.from_features(X, sample_domain=np.full(100, sign))
        with pytest.raises(ValueError, match=missing):  # before any features are computed
            ShiftDisplay.from_estimator(None, X, sample_domain=np.full(100, sign))
    unreadable = np.where(domain[:, None] < 0, np.nan, X)
    with pytest.raises(ValueError, match=r"no target rows .*\(negative\) that can be read, of 60"):
        ShiftDisplay.from_features(unreadable, sample_domain=domain)
    with pytest.raises(ValueError, match="minimum of 20 is required"):
        ShiftDisplay.from_features(X[:30], sample_domain=domain[:30])
    with pytest.raises(ValueError, match="features has 100 rows and y has 99"):
        ShiftDisplay.from_features(X, sample_domain=domain, y=y[1:])
    with pytest.raises(ValueError, match="is_source must hold 100 booleans"):
        ShiftDisplay(X[:, :2], domain, report).plot()
    with pytest.raises(ValueError, match=r"points must be of shape \(n, 2\)"):
        ShiftDisplay(X, domain > 0, report).plot()
