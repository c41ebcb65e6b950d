"""What a task of a Slurm array runs: its share of a sweep, as a sweep on one machine would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normlab.config.compose import user_config_dir
from normlab.sweep.job import Job
from normlab.sweep.pool import Pool
from normlab.sweep.slots import slots
from normlab.sweep.state import last_metrics
from normlab.sweep.view import PlainView
from normlab.sweep.worker import Worker


class Share:
    """Cells, by their overrides: what submitit pickles, calls on a node, and asks to ``checkpoint`` before the end.

    Slurm ends a task in three ways. Before its time limit, or where a cluster is set up so before a preemption, it
    sends a signal that submitit answers: it calls ``checkpoint`` and requeues the task. ``scontrol requeue`` and
    preemption send SIGTERM, which the pool takes: Slurm requeues by itself. ``scancel`` the same, without.
    """

    def __init__(self, cells: Sequence[Sequence[str]], config_dir: Path | None) -> None:
        self.cells = [tuple(overrides) for overrides in cells]
        self.config_dir = config_dir

    def __call__(self) -> None:
        from normlab.experiment.grid import config_of

        with user_config_dir(self.config_dir):
            jobs = [Job(overrides, config_of(overrides)) for overrides in self.cells]
            places = slots(jobs[0].config.launch, jobs[0].config.train.device)
            self._pool = Pool(jobs, [Worker(slot) for slot in places], PlainView())
            self._began_at = self._steps_made()
            self._pool.run()

    def checkpoint(self) -> Any:
        """The same share once more, after its cells have saved; None, which is not requeued, where this piece made no
        step: the next would not either."""
        from submitit.helpers import DelayedSubmission

        self._pool.stop()
        if self._steps_made() <= self._began_at:
            print("no run made a step within the time limit: not requeued; set a longer launch.minutes", flush=True)
            return None
        return DelayedSubmission(Share(self.cells, self.config_dir))

    def _steps_made(self) -> int:
        return sum(last_metrics(job.run_dir)[0] for job in self._pool.jobs)
