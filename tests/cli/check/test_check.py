"""``python -m sktransfer check``, run as a user runs it."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from sktransfer.backbones.local import local_weights
from sktransfer.backbones.vision import checkpoint_file
from sktransfer.backbones.weights import file_sha256
from sktransfer.cli.check import installation
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


def test_the_installation_alone_works_and_is_described(capsys):
    status, report = check(capsys)
    here = report["installation"]
    assert (status, report["findings"]) == (0, [])
    assert here["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert here["packages"]["openvino"]
    assert not {"pytest", "sphinx"} & set(here["packages"])
    assert here["engine"] in here["engines"]
    assert 0 < here["engines"]["openvino"] < 1e-4
    lite0 = here["weights"][0]
    assert (lite0["backbone"], lite0["intact"]) == ("efficientnet_lite0", True)
    assert lite0["sha256"] == file_sha256(lite0["path"])


def test_text_names_what_is_wrong_and_shortens_lists(folder, capsys):
    for i in range(7):
        (folder / "0" / f"broken {i}.png").write_bytes(b"x")
    assert main(["check", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "unreadable: 7 files cannot be read: it is not a readable JPEG" in printed.out
    assert "    and 2 more; --json lists them all" in printed.out
    assert "weights of efficientnet_lite0: intact" in printed.out
    assert "reading: 100%" in printed.err


def test_names_of_files_stay_on_their_line(folder, capsys):
    broken = folder / "0" / "a\n\x1b[31mblank: \u202egnp.png"
    broken.write_bytes(b"x")
    assert main(["check", str(folder), "--quiet"]) == 1
    lines = capsys.readouterr().out.split("\n")
    assert rf"    {folder}/0/a\n\x1b[31mblank: \u202egnp.png" in lines
    assert all(line.isprintable() for line in lines)


def test_old_and_missing_packages_are_findings(monkeypatch):
    requirements = [
        "numpy>=1.26",
        "torch>=99",
        "nowhere>=1",
        "absent>=1; extra == 'plot'",
        "pytest>=99; extra == 'test'",
        "elsewhere; sys_platform == 'win32'",
    ]
    monkeypatch.setattr(installation.metadata, "requires", lambda name: requirements)
    packages, (finding,) = installation._packages()
    assert packages["numpy"]
    assert packages["nowhere"] is packages["absent"] is None
    assert not {"pytest", "elsewhere"} & set(packages)
    assert [item.partition(" ")[0] for item in finding.items] == ["torch>=99", "nowhere>=1"]


def test_weights_of_torchvision_are_found_and_compared_with_the_name_of_their_file(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert "resnet18" not in [found.backbone for found in local_weights()]
    file = checkpoint_file(models.get_model_weights("resnet18").DEFAULT)
    file.parent.mkdir()
    file.write_bytes(b"damaged")
    (here,) = [found for found in local_weights() if found.backbone == "resnet18"]
    assert (here.path, here.expected_sha256) == (file, "f37072fd")
    weights, (finding,) = installation._weights()
    assert [entry["intact"] for entry in weights if entry["backbone"] == "resnet18"] == [False]
    assert finding.items == ["resnet18"]
    assert "it is damaged or another version" in finding.message


def test_weights_of_timm_in_the_hub_cache_are_found(tmp_path, monkeypatch):
    from huggingface_hub import constants

    content = b"weights"
    (tmp_path / "content").write_bytes(content)
    sha256 = file_sha256(tmp_path / "content")
    for repository in ("timm--resnet18.a1_in1k", "someone--else"):
        root = tmp_path / "hub" / f"models--{repository}"
        snapshot = root / "snapshots" / "0123abcd"
        snapshot.mkdir(parents=True)
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text("0123abcd")
        (root / "blobs").mkdir()
        (root / "blobs" / sha256).write_bytes(content)
        (snapshot / "model.safetensors").symlink_to(root / "blobs" / sha256)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = [found for found in local_weights() if "/" in found.backbone]
    assert [(found.backbone, found.expected_sha256) for found in hub] == [
        ("timm/resnet18.a1_in1k", sha256)
    ]
    assert file_sha256(hub[0].path) == sha256
