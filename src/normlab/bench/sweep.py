"""Cells per hour: a sweep with one thread per cell and a cell per core, against all threads for one cell at a time;
and many tiny runs as cells of a sweep, against as many processes one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from normlab.bench.children import QUICKSTART, Workshop, command
from normlab.bench.measure import Spread, Timing, ratio, take_turns
from normlab.bench.processes import against_processes
from normlab.bench.record import Section, between, number, seconds, times
from normlab.bench.shapes import Given, in_words
from normlab.bench.view import View
from normlab.config.compose import compose
from normlab.config.schema import Config

_CELLS_PER_CORE = 2


def run(given: Given, timing: Timing, threads: int, view: View) -> list[Section]:
    """Two sections: cells of the quickstart, and tiny ones; ``threads`` is the number of cores."""
    short = ["train.steps=100"] if given.quick else []
    overrides = [*QUICKSTART, "train.device=cpu", *short, *given.overrides]
    config = compose(overrides)
    cells = threads if given.quick else _CELLS_PER_CORE * threads
    layouts = {
        f"{threads} cells at once, a thread each": (threads, 1),
        f"one cell at a time, {threads} threads": (1, threads),
    }
    view.phase("sweep", len(layouts) * (timing.rounds + 1) + 1)
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        compiled = workshop.new_folder("compiled")
        view.tick("preparing data")
        workshop.call(command("prepare", overrides), compiled)
        for name, (_, each) in layouts.items():  # code is compiled for a number of threads
            view.tick(f"compiling: {name}")
            workshop.first_step([*overrides, f"train.threads={each}"], compiled)
        samplers = {
            name: partial(_sweep, workshop, overrides, cells, jobs, each, compiled)
            for name, (jobs, each) in layouts.items()
        }
        measured = take_turns(samplers, timing.rounds, view.tick)
        packed = _tabulate(config, cells, measured, {"overrides": overrides, "cells": cells})
        return [packed, against_processes(given, timing, threads, workshop, view)]


def _sweep(workshop: Workshop, overrides: Sequence[str], cells: int, jobs: int, threads: int, compiled: Path) -> float:
    """Seconds of a whole sweep, from its start to its end."""
    runs = workshop.new_folder("runs")
    layout = [f"launch.jobs={jobs}", f"launch.threads={threads}", f"seed=range({cells})", f"runs_dir={runs}"]
    return workshop.call(command("sweep", [*overrides, *layout]), compiled)


def _tabulate(config: Config, cells: int, measured: Mapping[str, Spread], facts: dict[str, Any]) -> Section:
    train = config.train
    tokens = cells * train.steps * train.batch_size * train.seq_len
    section = Section(
        f"Sweep of {cells} cells, {train.steps} steps each: {in_words(config)}",
        ["", "cells per hour", "quartiles", "tokens/s in all", "sweep", "beside the first"],
        facts | {"tokens": tokens},
    )
    first, *others = measured
    for who, spread in measured.items():
        per_hour, rate = spread.map(lambda s: 3600 * cells / s), spread.map(lambda s: tokens / s)
        beside = ratio(measured[first], spread)
        row = {
            "name": who, "seconds": spread.plain(), "cells_per_hour": per_hour.plain(), "tokens_per_s": rate.plain(),
            "relative": beside.plain(),
        }  # fmt: skip
        rates = (number(per_hour.median), between(per_hour), number(rate.median), seconds(spread.median))
        section.add(row, who, *rates, "" if who == first else times(beside))
    section.notes = ["Start-up, validation, looks inside and checkpoints included; data prepared and code compiled."]
    packed = ratio(measured[others[0]], measured[first])
    section.verdict = f"A thread per cell and a cell per core gives {times(packed)} the cells per hour."
    return section
