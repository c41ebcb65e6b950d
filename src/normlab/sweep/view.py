"""A sweep while it runs: a table that renews itself on a terminal, plain lines in a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from normlab.quantities import duration
from normlab.sweep.job import Job, setting, varying
from normlab.sweep.pool import View

_HEARTBEAT = 30.0  # seconds between lines when nothing else is to be said
_REFRESH = 0.5
_STYLE = {"running": "cyan", "done": "green", "diverged": "yellow", "failed": "red", "interrupted": "yellow"}
# If not all rows fit.
_FIRST = ("running", "failed", "interrupted", "elsewhere", "diverged", "waiting", "queued", "done")


def make_view() -> View:
    """The table where somebody can watch it, else lines."""
    return LiveView() if sys.stdout.isatty() else PlainView()


class LiveView:
    """One row per run; as many rows as the terminal has room for, those that need eyes first."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()
        self._live = Live(console=Console(), auto_refresh=False, transient=True)

    def show(self, jobs: Sequence[Job]) -> None:
        if not self._live.is_started:
            self._live.start()
        elif time.monotonic() - self._shown < _REFRESH:
            return
        self._shown = time.monotonic()
        self._live.update(Group(self._table(jobs, self._live.console.height - 6), self._bar(jobs)), refresh=True)

    def close(self, jobs: Sequence[Job]) -> None:
        if self._live.is_started:
            self._live.stop()
        self._live.console.print(self._table(jobs, len(jobs)))

    def _table(self, jobs: Sequence[Job], room: int) -> Table:
        keys = varying(jobs)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in (*keys, "status", "step", "loss", "val loss", "spikes", "left"):
            table.add_column(name, justify="left" if name in (*keys, "status") else "right", no_wrap=True)
        shown = set(sorted(range(len(jobs)), key=lambda i: _FIRST.index(jobs[i].status))[: max(room, 3)])
        for job in (job for i, job in enumerate(jobs) if i in shown):
            table.add_row(*(Text(setting(job, key)) for key in keys), *_cells(job))
        if len(shown) < len(jobs):
            table.add_row(Text(f"and {len(jobs) - len(shown)} more", style="dim"))
        return table

    def _bar(self, jobs: Sequence[Job]) -> Table:
        line = Table.grid(padding=(0, 1))
        share = sum(1.0 if not job.is_open else job.step / job.steps for job in jobs) / max(len(jobs), 1)
        line.add_row(ProgressBar(total=1.0, completed=share, width=40), headline(jobs, self._began))
        return line


class PlainView:
    """A line when a run starts or ends, and now and then one in between."""

    def __init__(self) -> None:
        self._began = self._spoke = time.monotonic()
        self._known: dict[int, str] = {}
        self._keys: list[str] | None = None

    def show(self, jobs: Sequence[Job]) -> None:
        for number, job in enumerate(jobs):
            if self._known.get(number, "waiting") != job.status:
                self._say(f"[{number + 1}/{len(jobs)}] {self._sentence(job, jobs)}")
            self._known[number] = job.status
        if time.monotonic() - self._spoke > _HEARTBEAT:
            self._say(headline(jobs, self._began))

    def close(self, jobs: Sequence[Job]) -> None:
        self.show(jobs)

    def _sentence(self, job: Job, jobs: Sequence[Job]) -> str:
        self._keys = varying(jobs) if self._keys is None else self._keys
        words = [
            f"{job.status:<11}",
            *(f"{key}={setting(job, key)}" for key in self._keys if setting(job, key)),
        ]
        if job.was_finished:
            words.append("(before)")
        elif not job.is_open:
            words += [f"validation loss {job.val_loss:.4f}"] if job.val_loss is not None else []
            words += [duration(job.ended - job.began)] if job.ended else []
            words += [job.error] if job.error else []
        return " ".join(words)

    def _say(self, line: str) -> None:
        print(line, flush=True)
        self._spoke = time.monotonic()


def headline(jobs: Sequence[Job], began: float) -> str:
    """``5/12 ended, 2 running, about 3 min left``."""
    counts = Counter(job.status for job in jobs)
    ended = sum(not job.is_open for job in jobs)
    words = [f"{ended}/{len(jobs)} ended", f"{counts['running']} running"]
    words += [f"{counts['elsewhere']} running elsewhere"] if counts["elsewhere"] else []
    words += [f"{counts['queued']} queued"] if counts["queued"] else []
    made = sum(max(0, job.step - job.first_step) for job in jobs if job.began)
    left = sum(job.steps - job.step for job in jobs if job.status in ("waiting", "queued", "running"))
    if made and left:
        words.append(f"about {duration((time.monotonic() - began) / made * left)} left")
    return ", ".join(words)


def _cells(job: Job) -> tuple[Text | str, ...]:
    status = "running elsewhere" if job.status == "elsewhere" else job.status
    left = job.seconds_left
    return (
        Text(status + (" before" if job.was_finished else ""), style=_STYLE.get(job.status, "dim")),
        f"{job.step}/{job.steps}",
        *("" if value is None else f"{value:.4f}" for value in (job.loss, job.val_loss)),
        "" if job.spikes is None else str(job.spikes),
        "" if left is None else duration(left),
    )
