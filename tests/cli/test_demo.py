"""The demo on one split: its figures, table, plot and JSON."""

import json
import sys

import numpy as np
import pytest

from sktransfer.cli import demo, digits
from sktransfer.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report():
    return digits.run(n_labels=(50,), n_seeds=1)


def test_every_candidate_stands_beside_raw_pixels(report):
    assert len(report["candidates"]) == (1 + len(demo.LAYERS)) * 4
    raw = {
        (c["head"], c["n_components"]): c["accuracy"]
        for c in report["candidates"]
        if c["layer"] == demo.RAW
    }
    for c in report["candidates"]:
        expected = c["accuracy"] - raw[c["head"], c["n_components"]]
        assert np.isclose(c["gain_over_raw_pixels"], expected)


def test_a_middle_layer_beats_raw_pixels_and_the_last_does_not(report):
    def best(layer):
        return max(c["accuracy"] for c in report["candidates"] if c["layer"] == layer)

    assert best("blocks.3") > best(demo.RAW) > best("penultimate")
    (search,) = report["searches"]
    assert search["layer"] in ("blocks.3", "blocks.4")
    assert search["accuracy"] > search["raw_pixels_accuracy"]


def test_the_table_shows_candidates_and_choice(report):
    table = demo.format_table(report)
    assert "GridSearchCV chose blocks." in table
    assert sum(line.startswith("penultimate") for line in table.splitlines()) == 4


def test_without_matplotlib_the_table_is_printed_all_the_same(
    report, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(digits, "run", lambda n_seeds: report)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["demo", "--plot", str(tmp_path / "plot.png")]) == 0
    printed = capsys.readouterr().out
    assert "GridSearchCV chose" in printed
    assert 'pip install "sktransfer[plot]"' in printed


def test_the_command_prints_json_and_saves_a_plot(report, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(digits, "run", lambda n_seeds: report)
    plot = tmp_path / "plot.png"
    assert main(["demo", "--json", "--plot", str(plot)]) == 0
    assert json.loads(capsys.readouterr().out)["candidates"] == report["candidates"]
    assert plot.stat().st_size > 10_000
