"""Many tiny runs: as the cells of one sweep, and as ``normlab train`` one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from normlab.bench.children import Workshop, command
from normlab.bench.measure import Timing, ratio, take_turns
from normlab.bench.record import Section, between, number, seconds, times
from normlab.bench.shapes import Given, in_words
from normlab.bench.view import View
from normlab.config.compose import compose
from normlab.experiment.grid import cells_of_command_line

_CELLS, _QUICK_CELLS = 60, 12
_SAMPLED = 3  # processes of which --quick measures the time of all
# Tiny, and as long as it takes for `train.compile=auto` to compile on a CPU.
_TINY = ("scale=smoke", "train.steps=100", "data.tokenizer.kind=bytes", "wandb=disabled", "train.device=cpu")


def against_processes(given: Given, timing: Timing, cores: int, workshop: Workshop, view: View) -> Section:
    """One section: placements times seeds, prepared data, code compiled once before."""
    count = _QUICK_CELLS if given.quick else _CELLS
    overrides = [*_TINY, *given.overrides]
    varied = ["placement=pre,post,hybrid", f"seed=range({count // 3})"]
    cells = [cell.overrides for cell in cells_of_command_line([*overrides, *varied])]
    sampled = cells[:: count // _SAMPLED] if given.quick else cells
    view.phase("a sweep beside processes", 2 * timing.rounds + 2)
    compiled = workshop.new_folder("compiled")
    view.tick("preparing data")
    workshop.call(command("prepare", overrides), compiled)
    view.tick("compiling")
    for threads in {1, cores}:  # code is compiled for a number of threads
        for placement in ("pre", "post", "hybrid"):
            workshop.first_step([*overrides, f"placement={placement}", f"train.threads={threads}"], compiled)
    layout = [f"launch.jobs={cores}", "launch.threads=1"]
    samplers = {
        f"one sweep, {cores} cells at once": partial(_sweep, workshop, [*overrides, *varied, *layout], compiled),
        f"{count} x normlab train": partial(_one_by_one, workshop, sampled, count, compiled),
    }
    measured = take_turns(samplers, timing.rounds, view.tick)
    config = compose(overrides)
    section = Section(
        f"{count} runs of {config.train.steps} steps: {in_words(config)}",
        ["", "all runs", "quartiles (s)", "a run", "beside the sweep"],
        {"overrides": overrides, "cells": count, "processes_measured": len(sampled)},
    )
    sweep, apart = measured.values()
    for who, spread in measured.items():
        beside = ratio(spread, sweep)
        row = {"name": who, "seconds": spread.plain(), "relative": beside.plain()}
        words = (seconds(spread.median), between(spread), seconds(spread.median / count))
        section.add(row, who, *words, "" if spread is sweep else times(beside))
    section.notes = ["Each process starts Python, imports, looks up compiled code; a sweep does so once for each slot."]
    if len(sampled) < count:
        section.notes.append(f"Of the {count} processes {len(sampled)} were run; the time of all is extrapolated.")
    share = ratio(sweep, apart)
    section.verdict = f"The sweep takes {number(100 * share.median)} % of the time of the processes."
    return section


def _sweep(workshop: Workshop, overrides: Sequence[str], compiled: Path) -> float:
    return workshop.call(command("sweep", [*overrides, f"runs_dir={workshop.new_folder('runs')}"]), compiled)


def _one_by_one(workshop: Workshop, cells: Sequence[Sequence[str]], count: int, compiled: Path) -> float:
    """Seconds of ``count`` processes, from those of ``cells``."""
    runs = f"runs_dir={workshop.new_folder('runs')}"
    return sum(workshop.call(command("train", [*cell, runs]), compiled) for cell in cells) * count / len(cells)
