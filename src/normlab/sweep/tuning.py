"""The two halves of a tuned sweep: some seeds try every value, the others run at each method's chosen one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from normlab.config.identity import run_dir
from normlab.experiment.grid import Cell
from normlab.experiment.schema import Experiment
from normlab.experiment.trials import Method
from normlab.experiment.tuning import best_value, final_result
from normlab.sweep.state import result_of


@dataclass(frozen=True)
class Choice:
    """The value of the tuned factor for each method; one that has not tried every value yet has none."""

    factor: str
    values: dict[Method, str]

    def describe(self) -> str:
        """``optim.lr chosen: placement=pre 8e-3, placement=post 4e-3``"""
        chosen = [f"{' '.join(f'{k}={v}' for k, v in method)} {value}" for method, value in self.values.items()]
        return f"{self.factor} chosen: {', '.join(chosen) or 'none yet'}"


def tuning_cells(experiment: Experiment, cells: Sequence[Cell]) -> list[Cell]:
    """The cells that run first: those of ``tune_seeds``, or all where no seeds are set apart."""
    return [cell for cell in cells if not experiment.tune_seeds or cell.seed in experiment.tune_seeds]


def choose(experiment: Experiment, cells: Sequence[Cell]) -> Choice:
    """Each method's best value, from the tuning runs on disk."""
    factor = str(experiment.tune)
    results: dict[Method, dict[str, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    incomplete = set()
    for cell in tuning_cells(experiment, cells):
        if summary := result_of(run_dir(cell.config)):
            results[method_of(cell, factor)][cell.factors[factor]].append(final_result(summary, experiment.metric))
        else:
            incomplete.add(method_of(cell, factor))  # a choice now could be another one when that run has ended
    best = {method: best_value(tried) for method, tried in results.items() if method not in incomplete}
    return Choice(factor, {method: value for method, value in best.items() if value is not None})


def chosen_cells(experiment: Experiment, cells: Sequence[Cell], choice: Choice) -> list[Cell]:
    """The cells of the reported seeds at the chosen values."""
    return [
        cell
        for cell in cells
        if cell.seed not in experiment.tune_seeds
        and choice.values.get(method_of(cell, choice.factor)) == cell.factors[choice.factor]
    ]


def asked_cells(experiment: Experiment, cells: Sequence[Cell]) -> list[Cell]:
    """All cells that the experiment asks for, as far as the disk already says which."""
    if not experiment.tune_seeds:
        return list(cells)
    return tuning_cells(experiment, cells) + chosen_cells(experiment, cells, choose(experiment, cells))


def method_of(cell: Cell, factor: str) -> Method:
    """What the cell is apart from the tuned factor's value."""
    return tuple((key, value) for key, value in cell.factors.items() if key != factor)
