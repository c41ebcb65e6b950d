"""``normlab status``: how far the runs of an experiment are, from the disk alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from normlab.config.identity import run_dir
from normlab.config.overrides import quoted
from normlab.errors import UserError, nearest
from normlab.experiment.grid import cells
from normlab.experiment.schema import load_experiment
from normlab.sweep.state import RunState, read_state
from normlab.sweep.tuning import asked_cells

_WIDTH = 140  # where the output is no terminal and cannot be asked


def print_experiment(name: str, overrides: Sequence[str], runs_dir: str) -> None:
    """A row per run: those that the experiment's file asks for, then those that are there besides."""
    expected, folder_of_all = _expected(name, overrides, runs_dir)
    present = _folders(folder_of_all)
    if not expected and not present:
        known = [path.name for path in Path(runs_dir).glob("*/")]
        raise UserError(f"no experiment file and no runs '{name}' in {runs_dir}; {nearest(name, known)}")
    states = {folder: read_state(folder) for folder in [*expected, *present]}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "seed", "status", "step", "loss", "val loss", "spikes", ""):
        right = title in ("seed", "step", "loss", "val loss", "spikes")
        table.add_column(title, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for folder, state in states.items():
        besides = "not in the grid" if expected and folder not in expected else ""
        table.add_row(folder.parent.name, folder.name.removeprefix("seed"), *_cells(state), state.error or besides)
    console = _console()
    console.print(table)
    counted = [states[folder] for folder in expected] or list(states.values())
    console.print(f"{folder_of_all.name}: {_counts(counted)}", soft_wrap=True)


def print_all(runs_dir: str) -> None:
    """A line per experiment that has runs."""
    folders = sorted(path for path in Path(runs_dir).glob("*/") if _folders(path))
    if not folders:
        raise UserError(f"no runs in {runs_dir}; the first one: normlab train scale=smoke")
    for folder in folders:
        print(f"{folder.name:<24} {_counts([read_state(run) for run in _folders(folder)])}")


def _expected(name: str, overrides: Sequence[str], runs_dir: str) -> tuple[list[Path], Path]:
    """The run folders of the experiment's grid, and the folder they are all in; no first where there is no file."""
    try:
        experiment = load_experiment(name)
    except UserError:
        if name.endswith((".yaml", ".yml")) or overrides or not (Path(runs_dir) / name).is_dir():
            raise
        return [], Path(runs_dir) / name
    asked = asked_cells(experiment, cells(experiment, [f"runs_dir={quoted(runs_dir)}", *overrides]))
    folders = [run_dir(cell.config) for cell in asked]
    return folders, folders[0].parents[1]


def _folders(experiment: Path) -> list[Path]:
    return sorted(path for path in experiment.glob("*/seed*/") if path.is_dir())


def _cells(state: RunState) -> tuple[str, ...]:
    return (
        state.status,
        f"{state.step}/{state.steps}" if state.steps else "",
        "" if state.loss is None else f"{state.loss:.4f}",
        "" if state.val_loss is None else f"{state.val_loss:.4f}",
        "" if state.spikes is None else str(state.spikes),
    )


def _counts(states: Sequence[RunState]) -> str:
    counts = Counter(state.status for state in states)
    return f"{len(states)} runs: " + ", ".join(f"{count} {status}" for status, count in counts.most_common())


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)
