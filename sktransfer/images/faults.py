"""Errors that are the machine's fault."""

import errno

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def ends_the_run(error: BaseException) -> bool:
    """Whether an error is the machine's fault and not an image's: no memory, no more open files.

    Such an error must not become a row of NaN. One that another was raised from counts as well.
    """
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
        return True
    return error.__cause__ is not None and ends_the_run(error.__cause__)
