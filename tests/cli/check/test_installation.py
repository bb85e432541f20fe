"""The installation, as ``python -m sktransfer check`` describes it."""

import json

import pytest
import torch
from torchvision import models

from sktransfer.backbones.local import local_weights
from sktransfer.backbones.vision import checkpoint_file
from sktransfer.backbones.weights import file_sha256
from sktransfer.cli.check import installation
from sktransfer.cli.main import main


@pytest.mark.slow
def test_the_installation_alone_works_and_is_described(capsys):
    status = main(["check", "--json", "--quiet"])
    printed = capsys.readouterr()
    assert printed.err == ""
    report = json.loads(printed.out)
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
