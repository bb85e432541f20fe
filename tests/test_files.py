"""Files replace others together, or not at all."""

import os
import signal
import subprocess
import sys

import pytest

from sktransfer._files import check_writable, replacing


def write(targets, text):
    with replacing(*targets) as files:
        for file in files:
            file.write_text(text)


@pytest.fixture
def targets(tmp_path):
    """Two files of an earlier run."""
    targets = [tmp_path / "f.npy", tmp_path / "f.index.csv"]
    write(targets, "old")
    return targets


def texts(targets):
    return [target.read_text() if target.exists() else None for target in targets]


def test_files_are_replaced_together_and_nothing_is_left_beside_them(targets, tmp_path):
    with replacing(*targets) as files:
        for file in files:
            file.write_text("new")
            assert file.parent == tmp_path
            assert texts(targets) == ["old", "old"]
    assert texts(targets) == ["new", "new"]
    assert {*tmp_path.iterdir()} == {*targets}


def test_an_error_leaves_the_old_files_and_nothing_else(targets, tmp_path):
    with pytest.raises(TypeError):
        write(targets, 3)
    assert texts(targets) == ["old", "old"]
    assert {*tmp_path.iterdir()} == {*targets}


@pytest.mark.parametrize("n_done", [0, 1])
def test_no_file_of_one_run_stands_beside_that_of_another(n_done, targets, monkeypatch):
    replace, done = os.replace, []

    def fails(source, target):
        if len(done) == n_done:
            raise OSError("the disk is gone")
        done.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        write(targets, "new")
    assert texts(targets) == ["new" if n_done else "old", None]


KILLED = """
import os, signal, sys
from pathlib import Path
from sktransfer._files import replacing

with replacing(*map(Path, sys.argv[1:])) as files:
    files[0].write_text("half")
    if os.environ.get("WAIT"):
        print("writing", flush=True)
        sys.stdin.read()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next(targets, tmp_path):
    command = [sys.executable, "-c", KILLED, *map(str, targets)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert texts(targets) == ["old", "old"]
    assert {*tmp_path.iterdir()} > {*targets}
    write(targets, "new")
    assert texts(targets) == ["new", "new"]
    assert {*tmp_path.iterdir()} == {*targets}


def test_two_processes_do_not_write_the_same_file_at_once(targets):
    command = [sys.executable, "-c", KILLED, *map(str, targets)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, "WAIT": "1"}, **pipes) as other:
        other.stdout.readline()
        with pytest.raises(RuntimeError, match=r"another process is writing .*f\.npy"):
            write(targets, "new")
        other.communicate()
    assert texts(targets) == ["half", ""]


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder is a directory"):
        check_writable(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match="the folder of .* does not exist"):
        write([tmp_path / "nowhere" / "f.npy"], "new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
