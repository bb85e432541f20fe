"""``python -m sktransfer cache``, run as a user runs it."""

import json
import os
import re
import sqlite3
from contextlib import closing

import pytest

from sktransfer import FeatureStore, PretrainedCNNFeatures
from sktransfer.cli.main import main
from sktransfer.store import database
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


def read_only(monkeypatch):
    """Let no file of a store be written to; a superuser's permissions cannot be taken away."""
    connect = sqlite3.connect

    def connect_to_read(name, **how):
        return connect(re.sub("mode=rwc?", "mode=ro", name), **how)

    monkeypatch.setattr(sqlite3, "connect", connect_to_read)
    monkeypatch.setattr(os, "access", lambda path, mode: False)


def test_a_store_that_cannot_be_written_is_described_and_verified_but_not_pruned(
    folder, capsys, monkeypatch
):
    read_only(monkeypatch)
    assert main(["cache", "info", folder]) == 0
    assert main(["cache", "verify", folder]) == 0
    assert "36 vectors checked, 0 damaged" in capsys.readouterr().out
    assert main(["cache", "prune", folder, "--older-than", "0s"]) == 2
    assert (
        "cannot be used: attempt to write a readonly database; check its" in capsys.readouterr().err
    )


@pytest.mark.parametrize("damage", ["vector", "file"])
def test_verify_has_status_1_for_damage_that_it_cannot_remove(damage, folder, capsys, monkeypatch):
    file = FeatureStore(folder)._database.file
    if damage == "vector":
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE vectors SET checksum = x'00' WHERE block = 1")
    else:
        file.write_bytes(file.read_bytes()[:70_000])
    read_only(monkeypatch)
    assert main(["cache", "verify", folder]) == 1
    message = {"vector": "6 or more vectors in .* are damaged and cannot be removed"}.get(
        damage, r"is damaged \(database disk image is malformed\) and cannot be replaced"
    )
    assert re.search(message, capsys.readouterr().err)
    assert main(["cache", "prune", folder, "--max-bytes", "1"]) == 2


def test_a_store_that_another_program_holds_is_left_alone(folder, capsys, monkeypatch):
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.0)
    with closing(sqlite3.connect(FeatureStore(folder)._database.file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for action in (["info"], ["verify"], ["prune", "--max-bytes", "1"]):
            assert main(["cache", *action, folder]) == 2
            assert "cannot be used: database is locked; check" in capsys.readouterr().err
    assert main(["cache", "verify", folder]) == 0


def test_what_a_store_says_of_itself_is_not_believed(folder, capsys):
    with closing(sqlite3.connect(FeatureStore(folder)._database.file)) as connection, connection:
        connection.execute("UPDATE vectors SET stored = 9223372036854775807")
        connection.execute(
            "UPDATE namespaces SET description = char(27) || '[2J', digest = char(10) || digest"
        )
    assert main(["cache", "info", folder]) == 0
    text = capsys.readouterr().out
    assert text.count("last ?") == 2
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3
