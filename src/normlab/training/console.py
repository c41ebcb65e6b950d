"""What a person sees while a run goes on: a progress bar on a terminal, a line per validation elsewhere."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingView:
    """Fed by the loop at each flush and each validation; never asked for anything."""

    def __init__(self, title: str, start: int, steps: int) -> None:
        self._steps = steps
        self._progress: Progress | None = None
        if sys.stdout.isatty():
            self._progress = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[numbers]}"),
                console=Console(),
            )
            self._task = self._progress.add_task(title, total=steps, completed=start, numbers="compiling")
            self._progress.start()
        else:
            print(f"{title}: {steps} steps" + (f", resumed after {start}" if start else ""), flush=True)

    def update(self, step: int, loss: float | None, grad_norm: float | None, rate: float | None) -> None:
        if self._progress:
            numbers = f"loss {_show(loss)}  grad {_show(grad_norm)}" + (f"  {rate:,.0f} tok/s" if rate else "")
            self._progress.update(self._task, completed=step, numbers=numbers)

    def validation(self, step: int, loss: float) -> None:
        line = f"step {step}/{self._steps}  validation loss {loss:.4f}"
        if self._progress:
            self._progress.console.print(line, highlight=False)
        else:
            print(line, flush=True)

    def close(self) -> None:
        if self._progress:
            self._progress.stop()


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
