"""A sweep is an experiment file, values on the command line, or both. Any Hydra launcher may run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from normlab.experiment.grid import Cell


class GridSweeper(Sweeper):
    """Composes and checks every cell, prepares their data once, and hands them to the launcher.

    ``hydra.sweeper.experiment``: the name or the path of an experiment file. ``hydra.sweeper.report``: whether
    its report is written at the end.
    """

    def __init__(self, experiment: str | None, report: bool) -> None:
        self.experiment = experiment
        self.report = report
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run all cells. Raises UserError before any runs, CellsFailed when some ended badly."""
        from normlab.experiment import grid, load_experiment
        from normlab.sweep.prepare import prepare_data
        from normlab.sweep.summary import CellsFailed, print_next, print_upload, reports
        from normlab.sweep.tuning import choose, chosen_cells, tuning_cells

        if self.experiment:
            from normlab.report import check_parts

            experiment = load_experiment(self.experiment)
            check_parts(experiment)
            cells = grid.cells(experiment, arguments)
            first = tuning_cells(experiment, cells)
        else:
            first = cells = grid.cells_of_command_line(arguments)
        configs = [cell.config for cell in cells]
        prepare_data(configs)
        returns = self._launch(first, 0)
        if len(first) < len(cells):
            chosen = choose(experiment, cells)
            print(chosen.describe(), flush=True)
            second = chosen_cells(experiment, cells, chosen)
            if not second:
                seeds = ", ".join(str(seed) for seed in experiment.tune_seeds)
                print(f"nothing more was run: no method has all runs of seed {seeds}, which choose {experiment.tune}")
            returns += self._launch(second, len(returns))
        failed = sum(result.status == JobStatus.FAILED for result in returns)
        print_upload(configs)
        if self.report:
            from normlab.report import write_report

            for name, runs_dir in reports(configs, self.experiment):
                write_report(name, runs_dir)
        elif not failed:
            print_next(reports(configs, self.experiment))
        if failed:
            raise CellsFailed(failed, len(returns))
        return returns

    def _launch(self, cells: Sequence[Cell], first_index: int) -> list[JobReturn]:
        if not cells:  # for which no launcher is made
            return []
        assert self.launcher is not None  # Hydra calls setup first
        return list(self.launcher.launch([list(cell.overrides) for cell in cells], initial_job_idx=first_index))


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="normlab_grid",
    # A plain mapping: Hydra executes this module before it is in sys.modules, which a dataclass would need.
    node={"_target_": "hydra_plugins.normlab_sweep.grid_sweeper.GridSweeper", "experiment": None, "report": False},
    provider="normlab",
)
