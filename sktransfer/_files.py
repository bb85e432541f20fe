"""Files and folders that take the place of others only once they are complete."""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
"""Errors of file systems that have no locks."""

_TRIES = 1000
"""How often files are read again that others replace meanwhile."""


def check_writable(path: Path) -> None:
    """Raise what would go wrong with a file after the work that fills it.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
    """
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; give the name of a file")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise PermissionError(f"{path} cannot be written; choose another place")


@contextmanager
def replacing(*targets: Path) -> Iterator[list[Path]]:
    """Files to write in a context, which replace the targets if it ends without an error.

    They have temporary names in the folders of their targets. Those of a process that was killed
    are removed by the next that writes the same targets.

    Parameters
    ----------
    *targets : Path
        After a crash there may be the first alone, but never files of two runs side by side.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        A target cannot be written; the context is not entered.
    RuntimeError
        Another process is writing them.
    """
    for target in targets:
        check_writable(target)
    files = [_beside(target, "part") for target in targets]
    with locked(targets[0]):
        try:
            for file in files:
                file.open("wb").close()
            yield files
            for file in files:
                _sync(file)
            for target in targets[1:]:
                target.unlink(missing_ok=True)
            for file, target in zip(files, targets, strict=True):
                os.replace(file, target)
        finally:
            for file in files:
                file.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A folder to put files into, which replaces the target if the context ends without an error.

    At every moment, also of a crash, the target is the old folder or the new one, complete. Where
    the system cannot exchange two folders there is a moment without it, in which
    `read_together` finds the old one. What a killed process left is removed by the next.

    Raises
    ------
    RuntimeError
        Another process, or thread, is writing it.
    """
    with locked(target):
        fresh, old = _beside(target, "new"), _beside(target, "old")
        if old.exists() and not target.exists():
            old.rename(target)
        _remove(fresh, old)
        fresh.mkdir()  # not by tempfile, whose folders only their owner may read
        try:
            yield fresh
            for file in fresh.iterdir():
                _sync(file)
            _sync(fresh)
            if not target.exists():
                fresh.rename(target)
            elif not _exchange(fresh, target):
                target.rename(old)  # a folder cannot be renamed onto one that is not empty
                try:
                    fresh.rename(target)
                except BaseException:
                    old.rename(target)
                    raise
            _sync(target.parent)
        finally:
            _remove(fresh, *([old] if target.exists() else []))


def read_together(folder: Path, names: Sequence[str]) -> list[bytes]:
    """The contents of files in a folder, all of one state of it, while others may replace it.

    Raises
    ------
    FileNotFoundError
        The folder does not exist, or lacks one of the files.
    """
    old = _beside(folder, "old")
    for _ in range(_TRIES):
        before = _state(folder)
        found = folder if before else old  # between two renames, for ever if that was a crash
        try:
            for name in names:
                if not (found / name).is_file():
                    raise FileNotFoundError(f"{folder} holds no file {name}")
            contents = [(found / name).read_bytes() for name in names]
        except FileNotFoundError:
            if _state(folder) == before and not (before is None and old.exists()):
                raise
        else:
            if _state(folder) == before:
                return contents
    raise OSError(f"{folder} is replaced again and again while it is read")


def _state(folder: Path) -> tuple[int, ...] | None:
    """What changes when another folder takes the place of this one; None if there is none."""
    try:
        status = os.stat(folder)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Be the only one that writes a target, among all processes and threads.

    Raises
    ------
    RuntimeError
        Another one is writing it.
    """
    # The kernel releases it when its holder dies, however that happens.
    lock = FileLock(_beside(target, "lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RuntimeError(
            f"another process is writing {target}; wait for it, or give another name"
        ) from None
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # where open files cannot be removed
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    if path.is_dir():
        with suppress(OSError):  # where folders cannot be opened
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    else:
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths change places in one step; False where the system cannot."""
    name = {"linux": "renameat2", "darwin": "renamex_np"}.get(sys.platform)
    function = getattr(ctypes.CDLL(None), name, None) if name else None
    if function is None:
        return False
    paths, here, swap = (os.fsencode(first), os.fsencode(second)), -100, 2  # of fcntl.h, stdio.h
    arguments = (here, paths[0], here, paths[1]) if sys.platform == "linux" else paths
    return bool(function(*arguments, swap) == 0)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.sktransfer.{ending}")
