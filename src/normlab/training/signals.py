"""A polite end: the first SIGTERM or SIGINT asks the loop to save and stop, the second one kills as usual."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """``with StopRequest() as stop: ... if stop.signal: save and leave``. Only the main thread can listen."""

    signal: int | None = None

    def __enter__(self) -> StopRequest:
        self._old: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        return self

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
