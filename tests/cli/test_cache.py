"""``python -m sktransfer cache``, run as a user runs it."""

import json

import pytest

from sktransfer import FeatureStore, PretrainedCNNFeatures
from sktransfer.cli.main import main
from tests.helpers.networks import SmallCNN


@pytest.fixture
def folder(colour, tmp_path):
    """A store of six images under two networks."""
    for seed in (0, 1):
        estimator = PretrainedCNNFeatures(
            SmallCNN, random_state=seed, engine="torch", cache=tmp_path / "store"
        )
        estimator.fit_transform(colour)
    return str(tmp_path / "store")


def test_info_lists_what_each_network_stored(folder, capsys):
    assert main(["cache", "info", folder]) == 0
    text = capsys.readouterr().out
    assert "6 samples, 36 vectors" in text
    assert text.count("SmallCNN, 10 x 12, torch, float32: 6 samples") == 2
    assert main(["cache", "info", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == FeatureStore(folder).info()


def test_prune_removes_and_says_how_much(folder, capsys):
    assert main(["cache", "prune", folder, "--older-than", "1h", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == 0
    assert main(["cache", "prune", folder, "--max-bytes", "0"]) == 0
    assert "36 vectors removed" in capsys.readouterr().out


def test_verify_tells_by_its_exit_status_whether_all_is_intact(folder, capsys):
    assert main(["cache", "verify", folder]) == 0
    assert "36 vectors checked, 0 damaged" in capsys.readouterr().out
    file = FeatureStore(folder)._database.file
    file.write_bytes(file.read_bytes()[:5000])
    assert main(["cache", "verify", folder, "--json"]) == 1
    assert "is damaged" in json.loads(capsys.readouterr().out)["rebuilt"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "absent"], "holds no feature store"),
        (["prune", "absent"], "holds no feature store"),
    ],
)
def test_what_cannot_be_done_is_explained(arguments, message, capsys):
    assert main(["cache", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_prune_without_a_limit_is_refused(folder, capsys):
    assert main(["cache", "prune", folder]) == 2
    assert "--max-bytes or --older-than" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--max-bytes", "many"], ["--older-than", "3"], ["--max-bytes", "-1"]]
)
def test_sizes_and_ages_need_a_form(option, folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["cache", "prune", folder, *option])
    assert "must be" in capsys.readouterr().err or option[1] == "-1"
