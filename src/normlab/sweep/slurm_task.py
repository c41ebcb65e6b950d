"""What a task of a Slurm array runs: its share of a sweep, as a sweep on one machine would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normlab.config.compose import user_config_dir
from normlab.results import FINISHED
from normlab.sweep.job import Job
from normlab.sweep.pool import Pool, ignore_repeats
from normlab.sweep.slots import slots
from normlab.sweep.state import checkpoint_step, read_state
from normlab.sweep.view import PlainView
from normlab.sweep.worker import Worker

_SHARE_OF_GRACE = 0.8  # in which cells save; in the rest the task is requeued and ends


class Share:
    """Cells, by their overrides: what submitit pickles, calls on a node, and asks to ``checkpoint`` before the end.

    Slurm ends a task in three ways. Before its time limit, or where a cluster is set up so before a preemption, it
    sends a signal that submitit answers: it calls ``checkpoint`` and requeues the task. ``scontrol requeue`` and
    preemption send SIGTERM, which the pool takes: Slurm requeues by itself. ``scancel`` the same, without.
    """

    def __init__(self, cells: Sequence[Sequence[str]], config_dir: Path | None) -> None:
        self.cells = [tuple(overrides) for overrides in cells]
        self.config_dir = config_dir
        self._pool: Pool | None = None  # until its cells are known
        self._saved_before: list[int] = []

    def __call__(self) -> None:
        from normlab.experiment.grid import config_of

        with user_config_dir(self.config_dir):
            jobs = [Job(overrides, config_of(overrides)) for overrides in self.cells]
            launch = jobs[0].config.launch
            workers = [Worker(slot) for slot in slots(launch, jobs[0].config.train.device)]
            self._saved_before = _saved_steps(jobs)
            self._pool = Pool(jobs, workers, PlainView(), _SHARE_OF_GRACE * launch.grace)
            self._pool.run()

    def checkpoint(self) -> Any:
        """The same share once more, after its cells have saved; None, which is not requeued, where this piece saved no
        step: the next would not either."""
        from submitit.helpers import DelayedSubmission

        ignore_repeats()
        saved: list[int] = []
        if self._pool is not None:
            self._pool.stop()
            saved = _saved_steps(self._pool.jobs)
        if not any(now > before for now, before in zip(saved, self._saved_before, strict=False)):
            remedy = "set a longer launch.minutes, or launch.grace"
            print(f"no run made a step and saved it within the time limit: not requeued; {remedy}", flush=True)
            return None
        return DelayedSubmission(Share(self.cells, self.config_dir))


def _saved_steps(jobs: Sequence[Job]) -> list[int]:
    """How far each run is for good; the end is one more than its last checkpoint."""
    return [
        job.steps + 1
        if read_state(job.run_dir, job.treatment_hash).status in FINISHED
        else checkpoint_step(job.run_dir)
        for job in jobs
    ]
