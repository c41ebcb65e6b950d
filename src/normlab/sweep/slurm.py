"""A sweep on a cluster: submitit submits its cells as an array job, the disk and the queue say how far they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from normlab.config.compose import chosen_config_dir
from normlab.config.launch import LaunchConfig
from normlab.errors import UserError
from normlab.results import FINISHED
from normlab.sweep import slurm_queue
from normlab.sweep.follow import Follower
from normlab.sweep.job import Job
from normlab.sweep.pool import View
from normlab.sweep.slurm_task import Share
from normlab.sweep.state import read_state

_TIMEOUTS = 100_000  # submitit gives up after so many; ours end when a piece makes no step (see `Share`)


def run(jobs: Sequence[Job], launch: LaunchConfig, view: View) -> None:
    """Submit what is to do and not in the queue, and follow it to its end; with ``launch.wait=false`` only submit.

    Raises UserError where Slurm is not here, does not say what is queued or does not take the job, Stopped after
    Ctrl-C: the tasks are cancelled then, and their cells have saved.
    """
    queue = slurm_queue.states()
    to_submit = [job for job in jobs if not _is_settled(job, queue)]
    if to_submit:
        _submit(to_submit, launch)
    if launch.wait:
        Follower(jobs, view).run()


def _is_settled(job: Job, queue: Mapping[str, str] | None) -> bool:
    """Whether the job is done, or in the queue since an earlier sweep."""
    state = read_state(job.run_dir, job.treatment_hash)
    job.take(state)
    if state.status in FINISHED:
        job.status, job.was_finished = state.status, True
        return True
    task = slurm_queue.tasks_of(job.run_dir.parents[1]).get(job.run_dir)
    if task is None:
        return False
    if queue is None:
        record = job.run_dir.parents[1] / slurm_queue.FOLDER / slurm_queue.RECORD
        remedy = f"start the same command again when it does, or delete {record} if nothing is queued"
        raise UserError(f"squeue does not say whether task {task} of an earlier sweep is still queued: {remedy}")
    if task not in queue:
        return False
    job.task, job.status = task, "queued"
    return True


def _submit(jobs: Sequence[Job], launch: LaunchConfig) -> None:
    size = launch.cells_per_task
    shares = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    folder = jobs[0].run_dir.parents[1] / slurm_queue.FOLDER
    calls = [Share([job.overrides for job in share], chosen_config_dir()) for share in shares]
    try:
        submitted = _executor(folder, jobs[0].config.experiment, len(shares), launch).submit_array(calls)
    except RuntimeError as error:  # every error of submitit's is one; its last line is what sbatch said
        raise UserError(f"Slurm did not take the job: {str(error).strip().splitlines()[-1]}") from None
    for share, task in zip(shares, submitted, strict=True):
        for job in share:
            job.task, job.status = task.job_id, "queued"
            slurm_queue.note(job.run_dir, task.job_id)
    number = submitted[0].job_id.partition("_")[0]
    print(f"Slurm job {number}: {len(jobs)} cells in {len(shares)} tasks; their logs: {folder}", flush=True)


def _executor(folder: Path, experiment: str, tasks: int, launch: LaunchConfig) -> Any:
    """submitit's, with all that ``launch`` says. What it emits can be read in ``slurm/*_submission.sh``."""
    try:
        from submitit import SlurmExecutor
    except ModuleNotFoundError:
        raise UserError("launch=slurm needs submitit: pip install 'normlab[slurm]'") from None
    executor = SlurmExecutor(folder=folder, max_num_timeout=_TIMEOUTS)
    cpus = launch.cpus or launch.threads * launch.cells_at_once
    executor.update_parameters(
        job_name=f"normlab-{experiment}",
        time=launch.minutes,
        signal_delay_s=launch.grace,
        array_parallelism=min(launch.jobs or tasks, tasks),
        cpus_per_task=cpus,
        # A step does not inherit this from its job since Slurm 22.05.
        srun_args=[f"--cpus-per-task={cpus}"],
        setup=launch.setup,
        stderr_to_stdout=True,
        **({"gpus_per_node": launch.gpus} if launch.gpus else {}),
        **({"partition": launch.partition} if launch.partition else {}),
        **({"account": launch.account} if launch.account else {}),
        additional_parameters={
            "requeue": True,
            **({"mem": launch.memory} if launch.memory else {}),
            **launch.extra,
        },
    )
    return executor
