"""Commands that run beside the tests: their ends, their children, and how to be rid of both."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 240  # seconds for anything that ends


@dataclass(frozen=True)
class Ended:
    """A sweep that came to its end by itself."""

    code: int
    output: str

    @property
    def cells(self) -> str:
        """``3 done, 1 failed``; what it said instead where it did not come so far."""
        found = re.search(r"^\d+ cells: (.*)$", self.output, re.MULTILINE)
        return found[1] if found else f"none, exit code {self.code}"

    @property
    def line(self) -> str:
        """The first line that says what is wrong, without the name of the cell."""
        found = re.search(r"^(?:failed: [^:]*: |normlab: )(.*)$", self.output, re.MULTILINE)
        return found[1] if found else ""


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for a command and take what it printed."""
    output, _ = process.communicate(timeout=_PATIENCE)
    return Ended(process.returncode, output)


def wait_for(what: Callable[[], bool]) -> None:
    """Until it is so; raises TimeoutError where it never is."""
    deadline = time.monotonic() + _PATIENCE
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """The processes that ``pid`` has started and that live."""
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and to all that it has started."""
    pids = [pid]
    for each in pids:
        pids += children(each)
    for each in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
