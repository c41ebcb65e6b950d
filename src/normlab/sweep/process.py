"""A child process that outlives nobody: its own group, output in a file, a signal when its parent dies."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start(
    command: Sequence[str], log: Path, environment: Mapping[str, str], stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start ``command``; what it prints is appended to ``log``. Raises OSError if that is not writable."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C at the terminal is for the parent, which passes it on
            preexec_fn=_before_exec(),
        )


def kill_groups(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """SIGKILL to each process and to whatever it started."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _before_exec() -> Callable[[], None]:
    """What a child does before it becomes its program.

    On Linux it asks for SIGTERM when its parent dies: ``kill -9`` of a sweep leaves no orphans. And it ignores what
    Slurm tells every process of a task some time before its limit, which kills whoever has not heard of it: the
    sweep in the task hears it too, and tells its cells to save.
    """
    prctl, parent = None, os.getpid()
    if sys.platform.startswith("linux"):
        prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before we could ask
                os._exit(128 + signal.SIGTERM)

    return in_child
