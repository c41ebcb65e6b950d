"""Where measurements go. Disk is the truth: metrics.jsonl and probes.jsonl, one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from normlab.errors import UserError
from normlab.files import unwritable, write_atomic

Row = dict[str, Any]


class Sink(Protocol):
    """What the training loop writes to. Rows are those of the run folder: ``{"step": k, ...}``."""

    def log(self, rows: list[Row]) -> None:
        """Training and validation rows of one flush, in order of steps."""

    def probe(self, row: Row) -> None:
        """One look inside the layers: names with a list of one value per layer or a dict of groups."""

    def finish(self, summary: Row, exit_code: int) -> None:
        """The run is over; ``summary`` is that of summary.json."""


class JsonlSink:
    """Append-only writer of one file; NaN and infinity become null. To resume, first ``truncate_after``."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def log(self, rows: list[Row]) -> None:
        """Append and hand over to the operating system: another process sees whole rows."""
        # One write per flush; Python's repr of a float is the shortest text that reads back to the same bits.
        text = "".join(json.dumps(_plain(row), allow_nan=False) + "\n" for row in rows)
        with self._disk_errors():
            self._file.write(text)
            self._file.flush()

    def sync(self) -> None:
        """Survive a power cut up to here; to be called before a checkpoint that counts on these rows."""
        with self._disk_errors():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._disk_errors(), self._file:
            os.fsync(self._file.fileno())

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(Path(self._file.name), error) from None


class DiskSink:
    """metrics.jsonl and probes.jsonl of a run folder."""

    def __init__(self, folder: Path) -> None:
        self._metrics = JsonlSink(folder / "metrics.jsonl")
        self._probes = JsonlSink(folder / "probes.jsonl")

    def log(self, rows: list[Row]) -> None:
        self._metrics.log(rows)

    def probe(self, row: Row) -> None:
        self._probes.log([row])

    def sync(self) -> None:
        self._metrics.sync()
        self._probes.sync()

    def finish(self, summary: Row, exit_code: int) -> None:
        """Close the files; summary.json is the training loop's to write."""
        self._metrics.close()
        self._probes.close()


def _plain(value: Any) -> Any:
    """The value with every non-finite float in it replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value


def _lines(path: Path) -> Iterator[tuple[bytes, Row]]:
    """Text and content of every line. A last line that is not JSON was torn by a cut and is left out."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or "step" not in row:
                raise ValueError("not a row")
        except ValueError:
            if number == len(lines):
                return
            raise UserError(
                f"{path}, line {number} is damaged: delete that line, or the folder to start the run again"
            ) from None
        yield line, row


def read_rows(path: Path) -> list[Row]:
    """All rows in order; none without a file. A damaged line before the last one is a UserError."""
    return [row for _, row in _lines(path)]


def truncate_after(path: Path, step: int) -> None:
    """Keep the rows up to and with ``step``, untouched to the byte; atomic.

    A run that resumes from a checkpoint of ``step`` will log the later steps again.
    """
    if not path.exists():
        return
    kept = b"".join(line + b"\n" for line, row in _lines(path) if row["step"] <= step)
    write_atomic(path, kept)
