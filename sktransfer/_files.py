"""Files that take the place of others only once they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


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
    # The kernel releases it when its holder dies, however that happens.
    lock = FileLock(_beside(targets[0], "lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RuntimeError(
            f"another process is writing {targets[0]}; wait for it, or give another name"
        ) from None
    files = [_beside(target, "part") for target in targets]
    try:
        for file in files:
            file.open("wb").close()
        yield files
        for target in targets[1:]:
            target.unlink(missing_ok=True)
        for file, target in zip(files, targets, strict=True):
            os.replace(file, target)
    finally:
        for file in files:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # where open files cannot be removed
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.sktransfer.{ending}")
