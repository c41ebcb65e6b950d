"""The process that runs a slot's cells, one after the other, as the pool sees it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from normlab.sweep.process import kill_groups, start
from normlab.sweep.slots import Slot

COMMAND = (sys.executable, "-m", "normlab.sweep.serve")
_LEAVE = 10.0  # seconds in which a process without a cell has to be gone


class WorkerLost(Exception):
    """The machine or the process that ran a cell is gone, for no fault of the cell's."""


class Worker:
    """Starts its process with its first cell, and another one after a cell that did not end with 0."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None  # None with a process: it has been sent home
        self._needs = ""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def is_ready(self) -> bool:
        """Whether a cell can begin at once."""
        return True

    def run(self, words: Sequence[str], log: Path, needs: str, shapes: str, placement: str) -> None:
        """Begin a cell: ``normlab WORDS``; what it prints is appended to ``log``. Raises OSError if that cannot be.

        ``needs``: settings of a whole process, a cell with others gets a new one. ``shapes`` and ``placement``: what
        compiled code depends on.
        """
        log.touch()
        if self._process and (self._line is None or needs != self._needs or self._process.poll() is not None):
            self.end()
        if self._process is None:
            self._line, theirs = socket.socketpair()
            with theirs:
                self._process = start(COMMAND, log, self.slot.environment, stdin=theirs.fileno())
            self._needs = needs
        assert self._line is not None
        order = {"words": list(words), "log": str(log.absolute()), "shapes": shapes, "placement": placement}
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: `poll` has its code
            self._line.sendall(json.dumps(order).encode() + b"\n")

    def poll(self) -> int | None:
        """The exit code of the cell; None while it runs. One on another machine raises WorkerLost."""
        assert self._process is not None
        if self._answered():
            return 0
        code = self._process.poll()
        if code is None:
            return None
        if self._answered():  # between the two looks, and then it died
            return 0
        self.end()
        return code

    def interrupt(self) -> None:
        """SIGTERM: the cell saves and leaves."""
        if self._process is not None:
            self._process.terminate()

    def dismiss(self) -> None:
        """No more cells: a process without one goes home."""
        if self._line is not None:
            self._line.close()
            self._line = None

    @property
    def is_gone(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def end(self, patience: float = _LEAVE) -> None:
        """Dismiss, wait for ``patience`` seconds, kill."""
        self.dismiss()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
            kill_groups([self._process])
            self._process = None

    def _answered(self) -> bool:
        try:
            return self._line is not None and bool(self._line.recv(64, socket.MSG_DONTWAIT))
        except OSError:  # nothing yet, or the other side is gone
            return False
