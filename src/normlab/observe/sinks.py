"""Where measurements go. Disk is the truth: metrics.jsonl and probes.jsonl, one JSON object per line."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict

from normlab.errors import UserError
from normlab.files import unwritable

Row = dict[str, Any]


class Mark(TypedDict):
    """How far a file goes: so many bytes, with this SHA-256 in hexadecimal digits."""

    bytes: int
    sha256: str


Marks = dict[str, Mark]  # by file name; a checkpoint holds those of its step


class Sink(Protocol):
    """What the training loop writes to. Rows are those of the run folder: ``{"step": k, ...}``."""

    def log(self, rows: list[Row]) -> None:
        """Training and validation rows of one flush, in order of steps."""

    def probe(self, row: Row) -> None:
        """One look inside the layers: names with a list of one value per layer or a dict of groups."""

    def histograms(self, step: int, found: dict[str, tuple[list[int], list[float]]]) -> None:
        """Counts and edges of weights and gradients, by name; only with ``wandb.histograms=true``."""

    def finish(self, summary: Row, exit_code: int) -> None:
        """The run is over; ``summary`` is that of summary.json."""


class JsonlSink:
    """Append-only writer of one file; NaN and infinity become null. To resume, first ``rewind``.

    Raises DiskError where the disk is full or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._digest, self._size = path, hashlib.sha256(), 0
        with self._disk_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
            self._count(path.read_bytes())

    def log(self, rows: list[Row]) -> None:
        """Append and hand over to the operating system: another process sees whole rows."""
        # One write per flush; Python's repr of a float is the shortest text that reads back to the same bits.
        text = "".join(json.dumps(_plain(row), allow_nan=False) + "\n" for row in rows).encode()
        with self._disk_errors():
            self._file.write(text)
            self._file.flush()
        self._count(text)

    def sync(self) -> Mark:
        """Survive a power cut up to here; to be called before a checkpoint that counts on these rows."""
        with self._disk_errors():
            os.fsync(self._file.fileno())
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def close(self) -> None:
        with self._disk_errors(), self._file:
            os.fsync(self._file.fileno())

    def _count(self, text: bytes) -> None:
        self._digest.update(text)
        self._size += len(text)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._path, error) from None


METRICS, PROBES = "metrics.jsonl", "probes.jsonl"


class DiskSink:
    """metrics.jsonl and probes.jsonl of a run folder."""

    def __init__(self, folder: Path) -> None:
        self._metrics = JsonlSink(folder / METRICS)
        self._probes = JsonlSink(folder / PROBES)

    def log(self, rows: list[Row]) -> None:
        self._metrics.log(rows)

    def probe(self, row: Row) -> None:
        self._probes.log([row])

    def histograms(self, step: int, found: dict[str, tuple[list[int], list[float]]]) -> None:
        """Not kept: they are large, and for looking at."""

    def sync(self) -> Marks:
        """Survive a power cut up to here; the marks are for the checkpoint that counts on these rows."""
        return {METRICS: self._metrics.sync(), PROBES: self._probes.sync()}

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


def read_rows(path: Path) -> list[Row]:
    """All rows in order; none without a file. A last line that is not JSON was torn by a cut and is left out.

    A damaged line before it is a UserError.
    """
    rows: list[Row] = []
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or "step" not in row:
                raise ValueError("not a row")
        except ValueError:
            if number == len(lines):
                break
            raise UserError(
                f"{path}, line {number} is damaged; delete {path.parent} and the run starts again"
            ) from None
        rows.append(row)
    return rows


def holds(folder: Path, marks: Mapping[str, Mark]) -> bool:
    """Whether every file still begins as it did when ``marks`` were taken."""
    for name, mark in marks.items():
        try:
            with (folder / name).open("rb") as file:
                if hashlib.sha256(file.read(mark["bytes"])).hexdigest() != mark["sha256"]:
                    return False
        except OSError:
            return False
    return True


def rewind(folder: Path, marks: Mapping[str, Mark]) -> None:
    """Cut the files of ``DiskSink`` back to where ``marks`` were taken; one without a mark begins anew.

    A run that resumes from a checkpoint will log the later steps again, and must find every earlier row, once.
    """
    for path in (folder / METRICS, folder / PROBES):
        try:
            with path.open("r+b") as file:
                file.truncate(marks[path.name]["bytes"] if path.name in marks else 0)
                os.fsync(file.fileno())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise unwritable(path, error) from None
