"""Hydra's side of ``normlab.sweep.engine``: one launcher, whatever engine ``launch=`` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from normlab.sweep.job import Job


class PoolLauncher(Launcher):
    """Runs cells where ``launch`` says, and prints how they ended."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing to keep: whoever runs a cell composes its configuration itself."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """A job is COMPLETED when its run is done or diverged, UNKNOWN when it was submitted and left alone."""
        from normlab.experiment.grid import config_of
        from normlab.sweep import engine
        from normlab.sweep.job import Job
        from normlab.sweep.summary import print_summary
        from normlab.sweep.view import make_view

        jobs = [Job(tuple(filter_overrides(overrides)), config_of(overrides)) for overrides in job_overrides]
        try:
            engine.run(jobs, make_view())
        finally:
            print_summary(jobs)
        return [JobReturn(overrides=job.overrides, status=_status(job)) for job in jobs]


def _status(job: Job) -> JobStatus:
    from normlab.results import FINISHED

    if job.is_open:
        return JobStatus.UNKNOWN
    return JobStatus.COMPLETED if job.status in FINISHED else JobStatus.FAILED


ConfigStore.instance().store(
    group="hydra/launcher",
    name="normlab_pool",
    node={"_target_": "hydra_plugins.normlab_sweep.pool_launcher.PoolLauncher"},
    provider="normlab",
)
