"""Comparison of parameter values, also of those that have been pickled in between."""

import functools
import inspect
import numbers
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator


def same_setting(a: Any, b: Any) -> bool:
    """Whether two values of a parameter mean the same.

    Functions and classes are compared by module and qualified name, partials, estimators and
    containers by their parts, and arrays by their elements.
    """
    if a is b:
        return True
    if inspect.isroutine(a) or isinstance(a, type):
        return type(a) is type(b) and _same_definition(a, b)
    if isinstance(a, numbers.Number) and isinstance(b, numbers.Number):
        # unfreeze=1 is the last stage, and unfreeze=1.0 is all of them.
        of_a_kind = isinstance(a, numbers.Integral) == isinstance(b, numbers.Integral)
        return of_a_kind and bool(a == b)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same_setting, a, b))
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_setting(a[key], b[key]) for key in a)
    if isinstance(a, functools.partial):
        return all(same_setting(*parts) for parts in zip(_parts(a), _parts(b), strict=True))
    if isinstance(a, BaseEstimator):
        return same_setting(a.get_params(deep=False), b.get_params(deep=False))
    equality: Any = type(a).__eq__
    if equality is object.__eq__:  # which no copy satisfies
        return hasattr(a, "__dict__") and same_setting(vars(a), vars(b))
    return bool(a == b)


def _parts(function: functools.partial[Any]) -> tuple[Any, ...]:
    return function.func, function.args, function.keywords


def _same_definition(a: Any, b: Any) -> bool:
    if (a.__module__, a.__qualname__) != (b.__module__, b.__qualname__):
        return False
    if not same_setting(getattr(a, "__self__", None), getattr(b, "__self__", None)):
        return False
    # Several lambdas, or functions made by a function, may share a name.
    return "<" not in a.__qualname__ or getattr(a, "__code__", a) == getattr(b, "__code__", b)
