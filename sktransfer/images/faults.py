"""Errors that are the fault of the machine or of what is installed."""

import errno

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def ends_the_run(error: BaseException) -> bool:
    """Whether an error is not an image's fault: no memory, no more open files, no package.

    Such an error must not become a row of NaN. One that another was raised from counts as well.
    """
    if isinstance(error, MemoryError | ImportError):
        return True
    if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
        return True
    return error.__cause__ is not None and ends_the_run(error.__cause__)
