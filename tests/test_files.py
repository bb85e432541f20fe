"""Files replace others together, or not at all."""

import os
import signal
import subprocess
import sys
import threading
from itertools import count

import pytest

from sktransfer import _files
from sktransfer._files import check_writable, read_together, replacing, replacing_folder

NAMES = ("a", "b")


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


# --- folders ----------------------------------------------------------------------------------


def write_folder(target, text):
    with replacing_folder(target) as folder:
        for name in NAMES:
            (folder / name).write_text(text)


@pytest.fixture(params=["exchange", "renames"])
def folder(request, tmp_path, monkeypatch):
    """A folder of an earlier run, where the system can exchange two folders and where not."""
    if request.param == "renames":
        monkeypatch.setattr(_files, "_exchange", lambda first, second: False)
    elif sys.platform not in ("linux", "darwin"):
        pytest.skip("this system cannot exchange two folders")
    write_folder(tmp_path / "f", "old")
    return tmp_path / "f"


def test_a_folder_is_replaced_and_nothing_is_left_beside_it(folder):
    with replacing_folder(folder) as fresh:
        for name in NAMES:
            (fresh / name).write_text("new")
        assert read_together(folder, NAMES) == [b"old", b"old"]
    assert read_together(folder, NAMES) == [b"new", b"new"]
    assert [*folder.parent.iterdir()] == [folder]


def test_an_error_leaves_the_old_folder_and_nothing_else(folder):
    with pytest.raises(TypeError):
        write_folder(folder, 3)
    assert read_together(folder, NAMES) == [b"old", b"old"]
    assert [*folder.parent.iterdir()] == [folder]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each kill is that of a forked process")
@pytest.mark.parametrize("kind", ["folder", "files"])
def test_a_process_killed_at_any_moment_leaves_the_old_or_the_new(kind, folder):
    """It is killed before its first use of a file, its second, and so on, until none is left."""
    targets = [folder.with_name("f.npy"), folder.with_name("f.index.csv")]

    def state():
        if kind == "folder":
            return read_together(folder, NAMES)
        return [target.read_bytes() if target.exists() else None for target in targets]

    def replace(text):
        write_folder(folder, text) if kind == "folder" else write(targets, text)

    whole = [[b"old", b"old"], [b"new", b"new"]]
    ends, seen = [], []
    for n_events in count(1):
        if state() != whole[0]:
            replace("old")
            assert state() == whole[0]
        child = os.fork()
        if not child:
            left = count(n_events, -1)

            def kill(event, arguments, left=left):
                if event.startswith(("os.", "open", "shutil.")) and next(left) == 1:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(kill)
            replace("new")
            os._exit(0)
        ends.append(os.waitpid(child, 0)[1])
        if state() not in seen:
            seen.append(state())
        if ends[-1] == 0:
            break
    assert len(ends) > 10
    assert set(ends[:-1]) == {signal.SIGKILL}
    alone = [[b"old", None], [b"new", None]] if kind == "files" else []
    assert [each for each in seen if each not in alone] == whole
    replace("last")
    assert state() == [b"last", b"last"]
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_who_reads_while_others_replace_gets_one_state_and_never_none(folder):
    done = threading.Event()
    read = []

    def reads():
        while not done.is_set():
            read.append(read_together(folder, NAMES))

    reader = threading.Thread(target=reads)
    reader.start()
    for i in range(40):
        write_folder(folder, str(i))
    done.set()
    reader.join()
    assert len(read) > 3
    assert all(first == second for first, second in read)
    assert read_together(folder, NAMES) == [b"39", b"39"]


def test_two_do_not_write_the_same_folder_at_once(folder):
    with replacing_folder(folder) as fresh:
        with pytest.raises(RuntimeError, match="another process is writing .*f; wait for it"):
            write_folder(folder, "other")
        for name in NAMES:
            (fresh / name).write_text("new")
    assert read_together(folder, NAMES) == [b"new", b"new"]


def test_a_folder_or_file_that_does_not_exist_is_named(folder):
    with pytest.raises(FileNotFoundError, match="f holds no file c"):
        read_together(folder, ["a", "c"])
    with pytest.raises(FileNotFoundError, match="g holds no file a"):
        read_together(folder.with_name("g"), ["a"])
