"""How soon: ``--help``, and from the start of a process to its first optimizer step."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from normlab.bench.children import QUICKSTART, Workshop, command, has_stepped, is_finished, run_folders
from normlab.bench.composing import of_a_grid
from normlab.bench.measure import Spread, Timing, take_turns
from normlab.bench.record import Section, between, seconds
from normlab.bench.shapes import Given, in_words
from normlab.bench.view import View
from normlab.config.compose import compose

_HELP = "normlab --help"
_COLD = "first step, nothing compiled before"
_WARM = "first step, compiled before"
_CELL = "first step of a sweep's further cell"
_STEPS = "train.steps=100"  # from here on `train.compile=auto` compiles on a CPU
_HELPS = 5  # a median of so many is one value: it is short


def run(given: Given, timing: Timing, threads: int, view: View) -> list[Section]:
    """A cell of the quickstart, or of the given overrides, from its start to its first step; and composing many."""
    overrides = [*QUICKSTART, _STEPS, f"train.threads={threads}", *given.overrides]
    config = compose(overrides)
    view.phase("start-up", 4 * timing.rounds + 1)
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        warm = workshop.new_folder("compiled")
        view.tick("preparing data, compiling once")
        workshop.call(command("prepare", overrides), warm)
        workshop.first_step(overrides, warm)
        samplers = {
            _HELP: lambda: Spread([workshop.call([*_normlab(), "--help"], warm) for _ in range(_HELPS)]).median,
            _COLD: lambda: workshop.first_step(overrides, workshop.new_folder("compiled")),
            _WARM: lambda: workshop.first_step(overrides, warm),
            _CELL: lambda: further_cell(workshop, overrides, threads, warm),
        }
        measured = take_turns(samplers, timing.rounds, view.tick)
    section = Section(
        f"Start-up: {in_words(config)}",
        ["", "time", "quartiles (s)"],
        {"overrides": overrides, "python": sys.version.split()[0]},
    )
    for who, spread in measured.items():
        section.add({"name": who, "seconds": spread.plain()}, who, seconds(spread.median), between(spread))
    section.notes = [
        "To the first step: from the start of the process to the first step's row on disk; the text is tokenized "
        "before. A further cell: from the end of the cell before it in the same sweep, one after the other."
    ]
    section.verdict = _verdict(measured)
    return [section, of_a_grid(timing, view)]


def further_cell(workshop: Workshop, overrides: Sequence[str], threads: int, compiled: Path) -> float:
    """Seconds from the end of a sweep's first cell to the first step of its second, of the same shape."""
    runs = workshop.new_folder("runs")
    words = [*overrides, "observe.flush_every=1", f"runs_dir={runs}", "seed=0,1"]
    ended: list[float] = []

    def second_stepped() -> bool:
        folders = list(run_folders(runs))
        if not ended and any(map(is_finished, folders)):
            ended.append(time.perf_counter())
        return sum(map(has_stepped, folders)) == 2

    launch = ["launch.jobs=1", f"launch.threads={threads}"]
    _, end = workshop.until(command("sweep", [*words, *launch]), compiled, second_stepped)
    stepped = time.perf_counter()
    end()
    return stepped - (ended[0] if ended else stepped)


def _normlab() -> list[str]:
    return [sys.executable, "-m", "normlab"]


def _verdict(measured: Mapping[str, Spread]) -> str:
    helped, cold, warm, cell = (seconds(measured[name].median) for name in (_HELP, _COLD, _WARM, _CELL))
    return (
        f"--help takes {helped}; the first step comes after {cold}, compiled before {warm}, in a further cell {cell}."
    )
