"""Copies of skorch callbacks, for each fit its own."""

from typing import Any

from sklearn.base import clone


def copied_callbacks(callbacks: Any) -> Any:
    """Callbacks, or pairs of a name and one, each as an unused copy; None stays None."""
    if callbacks is None:
        return None
    return type(callbacks)(
        (each[0], copied(each[1])) if isinstance(each, tuple) else copied(each)
        for each in callbacks
    )


def copied(callback: Any) -> Any:
    """A callback with the same parameters that has seen no training.

    Parameters that cannot be copied, such as the open file of TensorBoard's ``SummaryWriter`` or
    the connection to a server, are shared.
    """
    if hasattr(callback, "__sklearn_clone__") or not hasattr(callback, "get_params"):
        return _copy_or_share(callback)
    parameters = callback.get_params(deep=False)
    return type(callback)(**{name: _copy_or_share(each) for name, each in parameters.items()})


def _copy_or_share(value: Any) -> Any:
    try:
        return clone(value, safe=False)
    except Exception:  # `__deepcopy__` and `__reduce__` of foreign classes may raise anything
        return value
