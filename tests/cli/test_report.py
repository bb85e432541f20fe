"""``python -m sktransfer report``, run as a user runs it."""

import json
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import ConvergenceWarning

from sktransfer.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    """Thirty digits in three classes, and a broken file."""
    X, y = digits
    root = tmp_path_factory.mktemp("report") / "three <b>digits"
    for label in (0, 1, 2):
        (root / f"class {label}").mkdir(parents=True)
        for i in np.flatnonzero(y == label)[:10]:
            image = Image.fromarray((X[i] * 255).astype(np.uint8))
            image.save(root / f"class {label}" / f"{i}.png")
    (root / "class 1" / "broken.png").write_bytes(b"broken")
    return root


def report(folder, output, *more):
    return main(["report", str(folder), "-o", str(output), "--image-size", "32", *more])


def test_a_folder_becomes_a_page_and_a_summary_and_broken_files_are_listed(
    folder, tmp_path, capsys
):
    output = tmp_path / "report.html"
    assert report(folder, output, "--json", "--folds", "2", "--quiet") == 1
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["output"] == str(output)
    assert summary["classes"] == ["class 0", "class 1", "class 2"]
    assert summary["rows"] == 31
    assert summary["predicted"] == 30
    assert summary["scores"]["accuracy"]["value"] > 0.8
    assert [each["path"] for each in summary["failed"]] == [str(folder / "class 1" / "broken.png")]
    assert printed.err.startswith(f"failed: {folder / 'class 1' / 'broken.png'}: it is not a")
    page = output.read_text()
    assert "<title>three &lt;b&gt;digits</title>" in page
    assert page.count("<section") > 10


def test_without_json_the_scores_are_printed_and_a_good_folder_exits_with_0(
    digits, tmp_path, capsys
):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(4):
            image = Image.fromarray((digits[0][i] * 255).astype(np.uint8))
            image.rotate(90 * (label == "b")).save(tmp_path / label / f"{i}.png")
    output = tmp_path / "page.html"
    more = ["--folds", "2", "--layer", "blocks.0", "--title", "Four digits", "--quiet"]
    assert report(tmp_path, output, *more, "--engine", "torch") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("8 images, 2 classes, 0 failed -> ")
    assert "accuracy: " in printed.out
    assert printed.err == ""
    assert "<title>Four digits</title>" in output.read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-o", "report.pdf"], "--output must end in .html"),
        (["-o", "nowhere/report.html"], "does not exist; create it first"),
        (["--layer", "blocks.99"], "blocks.99"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(more, message, folder, tmp_path, capsys):
    assert report(folder, tmp_path / "report.html", "--quiet", *more) == 2
    assert message in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_one_fold_is_refused(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        report(folder, tmp_path / "report.html", "--folds", "1")
    assert "--folds: must be a whole number of at least 2, got '1'" in capsys.readouterr().err


def test_a_folder_without_classes_is_refused(folder, tmp_path, capsys):
    assert report(folder / "class 1", tmp_path / "report.html") == 2
    assert "one subfolder of images per class" in capsys.readouterr().err


def test_files_beside_the_classes_are_named_and_left_out(folder, tmp_path, capsys):
    for label in (0, 1):
        (tmp_path / "in" / f"{label}").mkdir(parents=True)
        for image in sorted((folder / f"class {label * 2}").glob("*.png"))[:4]:
            (tmp_path / "in" / f"{label}" / image.name).write_bytes(image.read_bytes())
    loose = tmp_path / "in" / "loose\x1b[31m.png"
    loose.write_bytes(image.read_bytes())
    arguments = ["--folds", "2", "--layer", "blocks.0", "--json", "--quiet"]
    assert report(tmp_path / "in", tmp_path / "report.html", *arguments) == 1
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["left_out"] == [str(loose)]
    assert summary["rows"] == 8
    assert "left out: " in printed.err
    assert "loose\\x1b[31m.png" in printed.err
    assert printed.err.count("\n") == 1


def test_an_image_alone_in_its_class_is_named(folder, tmp_path, capsys):
    for label, n in (("a", 2), ("b", 1)):
        (tmp_path / label).mkdir()
        for image in sorted((folder / "class 0").glob("*.png"))[:n]:
            (tmp_path / label / f"{image.stem}.png").write_bytes(image.read_bytes())
    assert report(tmp_path, tmp_path / "report.html", "--quiet") == 2
    assert f"alone in their class: {tmp_path / 'b'}" in capsys.readouterr().err


def test_a_section_that_fails_is_named_once(folder, tmp_path, capsys, monkeypatch):
    from sktransfer.inspection.report import transfer_report

    def fails(evidence):
        raise RuntimeError("no\nway")

    first = [(name, title, lead, fails) for name, title, lead, _ in transfer_report._SECTIONS[:1]]
    monkeypatch.setattr(transfer_report, "_SECTIONS", (*first, *transfer_report._SECTIONS[2:3]))
    arguments = ["--folds", "2", "--layer", "blocks.0", "--quiet"]
    assert report(folder, tmp_path / "report.html", *arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["failed", "section failed"]


def test_quiet_keeps_the_warnings_that_matter():
    from sktransfer.cli.report import _ignore_warnings_for_developers

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _ignore_warnings_for_developers()
        for category in (ConvergenceWarning, FutureWarning, UserWarning):
            warnings.warn("text", category, stacklevel=1)
    assert [each.category for each in caught] == [UserWarning]


def test_without_matplotlib_the_rest_is_reported_and_nothing_has_failed(
    folder, tmp_path, capsys, monkeypatch
):
    for label in (0, 2):
        (tmp_path / "in" / f"{label}").mkdir(parents=True)
        for image in sorted((folder / f"class {label}").glob("*.png"))[:5]:
            (tmp_path / "in" / f"{label}" / image.name).write_bytes(image.read_bytes())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["--folds", "2", "--layer", "blocks.0", "--quiet"]
    assert report(tmp_path / "in", tmp_path / "report.html", *arguments) == 0
    assert capsys.readouterr().err == ""
    page = (tmp_path / "report.html").read_text()
    assert page.count("needs matplotlib: run `pip install &#34;sktransfer[plot]&#34;`") == 2
