"""How far the tokenizing is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_LOG_EVERY = 30.0  # seconds; nothing is said about what takes less


class Progress:
    """Counts documents and bytes of UTF-8. ``n_bytes``: how many there will be, where known."""

    def __init__(self, shown: bool, n_bytes: int | None):
        self._shown, self._n_bytes = shown, n_bytes
        self.documents = self.bytes = 0

    def __enter__(self) -> Progress:
        self._started = self._spoke = time.monotonic()
        self._bar = None
        if self._shown and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            columns = (
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[rate]}"),
            )
            self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("reading", total=self._n_bytes, rate="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def phase(self, name: str) -> None:
        """What is being done now; the rate counts from here."""
        self._started = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, description=name)

    def advance(self, documents: int, n_bytes: int) -> None:
        """So much more is done."""
        self.documents += documents
        self.bytes += n_bytes
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.bytes, rate=self.rate(now))
        elif self._shown and now - self._spoke >= _LOG_EVERY:
            self._spoke = now
            print(f"tokenizing: {self.rate(now)}", file=sys.stderr, flush=True)

    def rate(self, now: float) -> str:
        """``1,234 documents, 56.7 MB, 8.9 MB/s``."""
        per_second = self.bytes / 1e6 / max(now - self._started, 1e-9)
        return f"{self.documents:,} documents, {self.bytes / 1e6:.1f} MB, {per_second:.1f} MB/s"
