"""Where a sweep's cells run: on this machine, on a Slurm cluster or on Ray, as ``launch=`` says."""

from __future__ import annotations

from collections.abc import Sequence

from normlab.sweep.job import Job
from normlab.sweep.pool import Pool, View
from normlab.sweep.slots import slots
from normlab.sweep.worker import Worker


def run(jobs: Sequence[Job], view: View) -> None:
    """Run ``jobs``, which have one ``launch`` in common, to the end; each has its final status then.

    Raises UserError where the engine is not here, Stopped after Ctrl-C.
    """
    launch, device = jobs[0].config.launch, jobs[0].config.train.device
    match launch.engine:
        case "local":
            Pool(jobs, [Worker(slot) for slot in slots(launch, device)], view).run()
        case "slurm":
            from normlab.sweep import slurm

            slurm.run(jobs, launch, view)
        case "ray":
            from normlab.sweep.ray_workers import ray_workers

            with ray_workers(launch, device) as workers:
                Pool(jobs, workers, view).run()
