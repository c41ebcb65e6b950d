"""A benchmark's result: a table and a sentence for a person, a JSON file with every round for everybody else."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normlab.bench.machine import device_label, machine
from normlab.bench.measure import Spread, Timing
from normlab.files import unwritable, write_json
from normlab.provenance import commit, versions

_PACKAGES = ("normlab", "torch", "transformers", "datasets", "tokenizers", "tiktoken", "numpy")


@dataclass
class Section:
    """One table: ``lines`` are what is printed, ``rows`` and ``facts`` what is written."""

    title: str
    header: list[str]
    facts: dict[str, Any] = field(default_factory=dict)  # shapes, precision, what was checked
    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # formulas, and what a figure leaves out
    verdict: str = ""

    def add(self, row: dict[str, Any], *line: str) -> None:
        self.rows.append(row)
        self.lines.append(list(line))


@dataclass
class Record:
    """All tables of one benchmark on one device."""

    benchmark: str
    device_type: str
    timing: Timing
    threads: int
    quick: bool
    sections: list[Section] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """What is written; numbers in seconds, bytes and tokens per second."""
        return {
            "benchmark": self.benchmark,
            "quick": self.quick,
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "device": device_label(self.device_type),
            "machine": machine(self.device_type),
            "versions": versions(_PACKAGES),
            "commit": commit(),
            "method": {
                "rounds": self.timing.rounds, "portion_seconds": self.timing.seconds, "warm_up": self.timing.warm_up,
                "threads": self.threads,
            },
            "sections": [
                {"title": s.title, **s.facts, "rows": s.rows, "notes": s.notes, "verdict": s.verdict}
                for s in self.sections
            ],
        }  # fmt: skip

    def write(self, folder: Path, shape: str | None) -> Path:
        """``NAME-DEVICE.json``; a chosen shape and ``quick`` are in the name, so that they replace no whole result."""
        words = [self.benchmark, shape, device_label(self.device_type), "quick" if self.quick else None]
        path = folder / ("-".join(word for word in words if word) + ".json")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from None
        write_json(path, self.plain())
        return path


def show(section: Section) -> None:
    """Print one section."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(header_style="bold")
    for place, name in enumerate(section.header):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for line in section.lines:
        table.add_row(*map(escape, line))
    # A file or a pipe has no width: nothing is folded there.
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=200)
    console.print(f"\n[bold]{escape(section.title)}", soft_wrap=True)
    console.print(table)
    for sentence in section.notes:
        console.print(sentence, style="dim", markup=False, soft_wrap=True)
    console.print(section.verdict, markup=False, soft_wrap=True)


def number(value: float) -> str:
    """Three digits that count: 1234567 -> 1,230,000; 12.345 -> 12.3; 0.00123 -> 0.00123."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.3g}"


def seconds(value: float) -> str:
    """A duration with its unit."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale:
            return f"{number(value / scale)} {unit}"
    return f"{number(value / 1e-9)} ns"


def between(spread: Spread) -> str:
    """The quartiles, as a rate or ratio is followed by."""
    first, third = spread.quartiles
    return f"{number(first)} to {number(third)}"


def times(spread: Spread) -> str:
    """A ratio with its range: 2.31x (2.28 to 2.40)."""
    return f"{spread.median:.2f}x ({min(spread.values):.2f} to {max(spread.values):.2f})"


def percent(spread: Spread) -> str:
    """A ratio as a difference from 1: +3.1 % (+2.8 to +3.6)."""
    low, high = (100 * (value - 1) for value in (min(spread.values), max(spread.values)))
    return f"{100 * (spread.median - 1):+.1f} % ({low:+.1f} to {high:+.1f})"
