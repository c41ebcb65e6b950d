"""The cells of a grid, composed together and each by itself."""

from __future__ import annotations

from normlab.bench.measure import Contestant, Timing, compete, ratio
from normlab.bench.record import Section, between, seconds, times
from normlab.bench.view import View
from normlab.config.compose import compose
from normlab.config.composer import forget
from normlab.experiment.grid import cells_of_command_line

_PLACEMENTS, _RATES = "placement=pre,post,hybrid,olmo2", "optim.lr=1e-3,2e-3,4e-3,8e-3"


def of_a_grid(timing: Timing, view: View) -> Section:
    """One section: placements times learning rates, whose files nobody has read before."""
    treatments = [cell.overrides for cell in cells_of_command_line([_PLACEMENTS, _RATES])]

    def together(n: int) -> None:
        for _ in range(n):
            forget()
            cells_of_command_line([_PLACEMENTS, _RATES])

    def apart(n: int) -> None:
        for _ in range(n):
            for overrides in treatments:
                forget()
                compose(overrides)

    contestants = [Contestant("together, as a sweep does", together), Contestant("each by itself", apart)]
    view.phase("composing", len(contestants) * (timing.rounds + 1))
    measured = compete(contestants, timing, tick=view.tick)
    first, second = measured.values()
    section = Section(
        f"Composing and checking {len(treatments)} cells",
        ["", "time", "quartiles (s)", "beside the first"],
        {"overrides": [_PLACEMENTS, _RATES], "cells": len(treatments)},
    )
    for who, spread in measured.items():
        beside = ratio(spread, first)
        row = {"name": who, "seconds": spread.plain(), "relative": beside.plain()}
        section.add(row, who, seconds(spread.median), between(spread), "" if spread is first else times(beside))
    section.verdict = f"Each by itself they take {times(ratio(second, first))} as long."
    return section
