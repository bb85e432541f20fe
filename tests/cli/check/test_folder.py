"""``python -m sktransfer check`` on folders, run as a user runs it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sktransfer.cli.main import main


@pytest.fixture
def folder(digits, tmp_path):
    """Ten digits in two classes, nothing wrong with them."""
    X, y = digits
    for label in (0, 1):
        (tmp_path / "in" / str(label)).mkdir(parents=True)
        for i in np.flatnonzero(y == label)[:5]:
            image = Image.fromarray((X[i] * 255).astype(np.uint8))
            image.save(tmp_path / "in" / str(label) / f"{i}.png")
    return tmp_path / "in"


@pytest.fixture
def quick(monkeypatch):
    """The installation is looked at by a test of its own."""
    monkeypatch.setattr("sktransfer.cli.check.installation.inspect_installation", lambda: ({}, []))


def check(capsys, *arguments):
    status = main(["check", *map(str, arguments), "--json", "--quiet"])
    printed = capsys.readouterr()
    assert printed.err == ""
    return status, json.loads(printed.out)


def found(report):
    return {
        finding["kind"]: [item.rpartition("/")[2] for item in finding["items"]]
        for finding in report["findings"]
    }


def png(folder, name, image):
    image.save(folder / name)


@pytest.mark.usefixtures("quick")
def test_a_folder_without_fault_has_status_zero(folder, capsys):
    status, report = check(capsys, folder)
    assert (status, report["findings"]) == (0, [])
    assert report["folder"] == {
        "directory": str(folder),
        "files": 10,
        "passed_over": {"files": [], "suffixes": {}},
        "unreadable": 0,
        "classes": {"0": 5, "1": 5},
        "modes": {"L": 10},
        "width": {"min": 8, "median": 8, "max": 8},
        "height": {"min": 8, "median": 8, "max": 8},
    }


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: (f / "0" / "x.png").write_bytes(b"x"), {"unreadable": ["x.png"]}),
        (lambda f: (f / "0" / "x.png").touch(), {"unreadable": ["x.png"]}),
        (
            lambda f: png(f, "0/x.png", Image.effect_noise((101, 100), 50)),
            {"unreadable": ["x.png"]},
        ),
        (lambda f: png(f, "0/x.png", Image.new("RGB", (9, 9), "red")), {}),
        (lambda f: png(f, "0/x.png", Image.new("L", (9, 9), 7)), {"blank": ["x.png"]}),
        (
            lambda f: png(f, "0/x.bmp", Image.open(f / "0" / "0.png")),
            {"duplicate": ["0.png", "x.bmp"]},
        ),
        (
            lambda f: shutil.copy(f / "0" / "0.png", f / "1" / "x.png"),
            {"contradiction": ["0.png", "x.png"]},
        ),
        (lambda f: png(f, "x.png", Image.effect_noise((9, 9), 50)), {"loose-files": ["x.png"]}),
        (lambda f: (f / "1" / "1.png").unlink(), {"few-images": ["1"]}),
    ],
)
def test_each_fault_is_found_and_nothing_else(spoil, expected, folder, capsys):
    spoil(folder)
    status, report = check(capsys, folder, "--max-pixels", 10_000)
    kinds = found(report)
    if not expected:  # a red square: blank is what has no contrast, and this has, across channels
        assert kinds == {}
        return
    assert kinds == expected
    assert status == 1


@pytest.mark.usefixtures("quick")
def test_a_class_that_its_colour_mode_gives_away_is_found(folder, capsys):
    for path in (folder / "1").iterdir():
        Image.open(path).convert("RGB").save(path)
    status, report = check(capsys, folder)
    assert (status, found(report)) == (1, {"mode-tells-class": ["0", "1"]})
    png(folder, "1/x.png", Image.effect_noise((8, 8), 50))
    assert check(capsys, folder)[0] == 0


@pytest.mark.usefixtures("quick")
def test_a_folder_without_classes_is_not_blamed_for_it(folder, capsys):
    assert check(capsys, folder / "0")[0] == 0


def test_no_folder_is_status_two(folder, capsys):
    assert main(["check", str(folder / "absent")]) == 2
    assert "not a directory" in capsys.readouterr().err


@pytest.mark.slow
def test_text_names_what_is_wrong_and_shortens_lists(folder, capsys):
    for i in range(7):
        (folder / "0" / f"broken {i}.png").write_bytes(b"x")
    assert main(["check", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "unreadable: 7 files cannot be read: it is not a readable JPEG" in printed.out
    assert "    and 2 more; --json lists them all" in printed.out
    assert "weights of efficientnet_lite0: intact" in printed.out
    assert "reading: 100%" in printed.err


@pytest.mark.slow
def test_names_of_files_stay_on_their_line(folder, capsys):
    broken = folder / "0" / "a\n\x1b[31mblank: \u202egnp.png"
    broken.write_bytes(b"x")
    assert main(["check", str(folder), "--quiet"]) == 1
    lines = capsys.readouterr().out.split("\n")
    assert rf"    {folder}/0/a\n\x1b[31mblank: \u202egnp.png" in lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.usefixtures("quick")
def test_classes_without_a_readable_image_and_other_files_are_named(folder, capsys):
    for name in ("phone/b.heic", "raw/a.cr2", "0/notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"0" * 99)
    status, report = check(capsys, folder)
    assert status == 1
    assert found(report) == {
        "unreadable": ["b.heic"],
        "few-images": ["phone"],
        "empty-class": ["raw"],
    }
    others = report["folder"]["passed_over"]
    assert others["suffixes"] == {".txt": 1, ".cr2": 1}


@pytest.mark.usefixtures("quick")
def test_the_range_of_deep_files_can_be_given(folder, capsys):
    values = np.random.default_rng(0).integers(0, 5000, (9, 9), dtype=np.int32)
    Image.fromarray(values).save(folder / "0" / "deep.tiff")
    assert found(check(capsys, folder)[1])["unreadable"] == ["deep.tiff"]
    report = check(capsys, folder, "--value-range", "0", "5000")[1]
    assert report["findings"] == []
    assert main(["check", str(folder), "--value-range", "9", "0", "--quiet"]) == 2
    assert "--value-range must be two numbers, black below white" in capsys.readouterr().err
