"""What an experiment runs first, and what then: a stage is a list of cells that need nothing from each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from normlab.config.identity import run_dir
from normlab.experiment.grid import Cell, cells
from normlab.experiment.schema import Experiment
from normlab.experiment.trials import add_trials, with_trials
from normlab.sweep.search import check_optuna, next_trials
from normlab.sweep.tuning import choose, chosen_cells, tuning_cells


def stages_of(experiment: Experiment, overrides: Sequence[str]) -> Iterator[list[Cell]]:
    """The stages in turn; each is to be run before the next is asked for, as that follows from the disk.

    All cells; or, where seeds are set apart for it, those that tune, then the others at the chosen values. A search
    adds stages to the first half, one value more for each row at a time. Raises UserError before the first stage.
    """
    asked = cells(experiment, overrides)
    folder = run_dir(asked[0].config).parents[1]
    if experiment.search:
        check_optuna()
        experiment = with_trials(experiment, folder)
        asked = cells(experiment, overrides)
    return _stages(experiment, overrides, asked)


def _stages(experiment: Experiment, overrides: Sequence[str], asked: list[Cell]) -> Iterator[list[Cell]]:
    yield tuning_cells(experiment, asked)
    folder = run_dir(asked[0].config).parents[1]
    while experiment.search and (proposed := next_trials(experiment, asked)):
        add_trials(experiment, folder, proposed)
        known = {run_dir(cell.config) for cell in asked}
        experiment = with_trials(experiment, folder)
        asked = cells(experiment, overrides)
        yield [cell for cell in tuning_cells(experiment, asked) if run_dir(cell.config) not in known]
    if experiment.tune_seeds:
        chosen = choose(experiment, asked)
        print(chosen.describe(), flush=True)
        second = chosen_cells(experiment, asked, chosen)
        if not second:
            seeds = ", ".join(str(seed) for seed in experiment.tune_seeds)
            print(f"nothing more was run: no method has all runs of seed {seeds}, which choose {experiment.tune}")
        yield second
