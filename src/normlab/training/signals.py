"""A polite end: a signal asks the loop to save and stop.

Slurm announces a time-out by SIGUSR1, if asked to, and a preemption by SIGTERM; submitit listens to SIGUSR2; Ctrl-C is
SIGINT. A batch system signals every process of a job, and a sweep signals its cells: the same run may be told twice
within milliseconds. So saving is broken off by a second Ctrl-C alone, a person's, and by SIGKILL.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """``with StopRequest() as stop: ... if stop.signal: save and leave``. Only the main thread can listen."""

    signal: int | None = None

    def __enter__(self) -> StopRequest:
        self._old: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._heard) for number in SIGNALS}
        return self

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number
        if number == signal.SIGINT:
            signal.signal(number, self._old[number])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
