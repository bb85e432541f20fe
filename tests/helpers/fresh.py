"""Processes of their own that start fast.

A new interpreter takes seconds to import torch. These processes are forked from one that has
imported the libraries and done nothing else, so that they find no network loaded, no cache filled
and no setting changed.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import TypeVar

Result = TypeVar("Result")

_FORKED = get_context("forkserver")
_FORKED.set_forkserver_preload(
    [
        "sktransfer.features.image",
        "sktransfer.features.sequence",
        "sktransfer.finetuning.classifier",
        "sktransfer.persistence",
        "sktransfer.inspection.embedding",
        "pytest",
    ]
)


def in_another_process(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function of a test's module returns in a fresh process with this environment."""
    with ProcessPoolExecutor(1, mp_context=_FORKED) as pool:
        return pool.submit(_run, dict(os.environ), function, *arguments).result()


def start_process(function: Callable[..., object], *arguments: object) -> BaseProcess:
    """A fresh process with this environment that runs a function of a test's module."""
    process = _FORKED.Process(target=_run, args=(dict(os.environ), function, *arguments))
    process.start()
    return process


def _run(
    environment: Mapping[str, str], function: Callable[..., Result], *arguments: object
) -> Result:
    """Run a function with the environment of now, not of when the first process was made."""
    os.environ.update(environment)
    return function(*arguments)
