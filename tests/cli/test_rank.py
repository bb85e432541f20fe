"""``python -m sktransfer rank``, run as a user runs it."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from sktransfer import PretrainedCNNFeatures
from sktransfer.cli.main import main
from sktransfer.datasets import list_images
from sktransfer.model_selection import rank_backbones

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(digits, tmp_path):
    """Sixty digits in three classes."""
    X, y = digits
    for label in (0, 1, 2):
        (tmp_path / "in" / str(label)).mkdir(parents=True)
        for i in np.flatnonzero(y == label)[:20]:
            image = Image.fromarray((X[i] * 255).astype(np.uint8))
            image.save(tmp_path / "in" / str(label) / f"{i}.png")
    return tmp_path / "in"


def rank(folder, *more):
    return main(["rank", str(folder), "--image-size", "32", "--engine", "torch", "--quiet", *more])


@pytest.mark.parametrize("metric", ["logme", "h_score", "transrate"])
def test_scores_are_those_of_rank_backbones(metric, folder, capsys):
    arguments = ["--backbone", "efficientnet_lite0", "--metric", metric, "--json"]
    assert rank(folder, *arguments, "--layer", "2", "--layer", "blocks.3") == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert printed.err == ""

    paths, labels = list_images(folder)
    candidates = {
        f"efficientnet_lite0 {layer}": PretrainedCNNFeatures(
            layer=layer, image_size=32, engine="torch"
        )
        for layer in (2, "blocks.3")
    }
    expected = rank_backbones(candidates, paths, labels, metric=metric)
    assert [row["backbone"] for row in report["ranking"]] == [row.backbone for row in expected]
    np.testing.assert_allclose(
        [row["score"] for row in report["ranking"]], [row.score for row in expected], rtol=1e-4
    )
    assert report["classes"] == {"0": 20, "1": 20, "2": 20}


def test_a_candidate_that_fails_is_listed_with_its_reason_and_the_others_are_ranked(folder, capsys):
    names = ("efficientnet_lite0", "efficientnet_lite9", "efficientnet_lite1")
    more = [argument for name in names for argument in ("--backbone", name)]
    assert rank(folder, *more, "--layer", "2") == 1
    printed = capsys.readouterr()
    assert "efficientnet_lite9" not in printed.out
    assert len(printed.out.splitlines()) == 4
    assert printed.err.startswith("failed: efficientnet_lite9: ValueError: backbone='efficientnet")
    assert "Traceback" not in printed.err

    assert rank(folder, *more, "--layer", "2", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert [row["backbone"] for row in report["failed"]] == ["efficientnet_lite9"]
    assert {row["backbone"] for row in report["ranking"]} == {names[0], names[2]}


def test_names_are_shown_in_printable_form_also_by_the_progress_bar(folder, capsys):
    names = ["efficientnet_lite0", "no\x1b[31m"]
    more = [argument for name in names for argument in ("--backbone", name)]
    arguments = ["rank", str(folder), "--image-size", "32", "--layer", "2", "--json", *more]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "ranking: 100%" in printed.err
    assert r"no\x1b[31m" in printed.err
    assert "\x1b[31m" not in printed.err
    assert json.loads(printed.out)["failed"][0]["backbone"] == names[1]


def test_without_names_all_networks_whose_weights_are_here_are_ranked(folder, capsys):
    store = ["--cache", str(folder.parent / "store"), "--layer", "1", "--json"]
    assert rank(folder, *store) == 0
    first = json.loads(capsys.readouterr().out)["ranking"]
    assert {f"efficientnet_lite{i}" for i in (0, 1, 2)} <= {row["backbone"] for row in first}
    assert {row["n_forward"] for row in first} == {60}
    assert rank(folder, *store) == 0
    again = json.loads(capsys.readouterr().out)["ranking"]
    assert {row["n_forward"] for row in again} == {0}
    assert [row["score"] for row in again] == [row["score"] for row in first]


def test_a_broken_file_is_told_and_left_out(folder, capsys):
    arguments = ["--backbone", "efficientnet_lite0", "--layer", "1", "--json"]
    assert rank(folder, *arguments) == 0
    expected = json.loads(capsys.readouterr().out)["ranking"][0]["score"]
    (folder / "1" / "broken.png").write_bytes(b"broken")
    assert rank(folder, *arguments) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert np.isclose(report["ranking"][0]["score"], expected, rtol=1e-4)
    (warning,) = report["warnings"]
    assert warning.startswith("1 of 61 images could not be read and are left out")
    assert printed.err == f"sktransfer: warning: {warning}\n"


def test_files_beside_the_subfolders_are_named_and_left_out(folder, capsys):
    arguments = ["--backbone", "efficientnet_lite0", "--layer", "1", "--json"]
    assert rank(folder, *arguments) == 0
    expected = json.loads(capsys.readouterr().out)["ranking"][0]["score"]
    loose = folder / "loose\x1b[31m.png"
    os.link(next((folder / "0").iterdir()), loose)
    assert rank(folder, *arguments) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["classes"] == {"0": 20, "1": 20, "2": 20}
    assert report["left_out"] == [str(loose)]
    assert np.isclose(report["ranking"][0]["score"], expected, rtol=1e-4)
    assert "have no class and are left out" in printed.err
    assert r"loose\x1b[31m.png" in printed.err
    assert printed.err.removesuffix("\n").isprintable()


def test_classes_of_few_images_are_warned_of_and_of_one_each_refused(folder, capsys):
    arguments = ["--backbone", "efficientnet_lite0", "--layer", "1", "--json"]
    for keep, status in ((2, 0), (1, 2)):
        for label in "012":
            for path in sorted((folder / label).iterdir())[keep:]:
                path.unlink()
        assert rank(folder, *arguments) == status
        printed = capsys.readouterr()
        if status == 0:
            assert json.loads(printed.out)["warnings"] == [
                "scores from fewer than 5 images of a class say little: "
                "'0' has 2, '1' has 2, '2' has 2"
            ]
            assert "sktransfer: warning: scores from fewer than 5" in printed.err
    assert printed.out == ""
    assert "each of the 3 classes" in printed.err
    assert "has one image" in printed.err


@pytest.mark.parametrize(
    ("directory", "more", "message"),
    [
        ("0", [], "rank needs two classes or more"),
        ("absent", [], "not a directory"),
        (".", ["--backbone", "efficientnet_lite9"], "all 1 backbones failed"),
    ],
)
def test_what_cannot_be_ranked_is_status_two(directory, more, message, folder, capsys):
    assert rank(folder / directory, *more, "--json") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
