"""A run that dies, by SIGKILL, just before its n-th operation on a file below its folder: opening, flush to the disk,
renaming, deleting. Every moment at which a file can be half there lies between two of them.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from typing import Any

_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")  # of Python's audit hooks


def server() -> ForkServerContext:
    """Processes that have torch and the package from the start: each costs a fork."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["normlab.training.run", "normlab.config.compose", "torch._dynamo"])
    return context


def run_until(context: ForkServerContext, overrides: Sequence[str], point: int | None) -> int:
    """The exit code of a run that is killed at its ``point``-th operation, from 1, if it has so many; None: never."""
    process = context.Process(target=_run, args=(list(overrides), point))
    process.start()
    process.join(120)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"the run that was to die at {point} lives")
    assert process.exitcode is not None
    return process.exitcode


def _run(overrides: list[str], point: int | None) -> None:
    import torch

    import normlab

    numbers = itertools.count(1)

    def operation() -> None:
        if next(numbers) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    config = normlab.compose(overrides)
    folder = os.path.abspath(config.runs_dir)
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        operation()
        fsync(descriptor)

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event in _EVENTS and str(details[0]).startswith(folder):
            reads = event == "open" and isinstance(details[1], str) and not set(details[1]) & set("wax+")
            if not reads:
                operation()

    os.fsync = flush
    sys.addaudithook(hook)
    normlab.train(config)
