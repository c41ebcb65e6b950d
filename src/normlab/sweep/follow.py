"""A sweep that runs elsewhere, followed from the disk and from Slurm's queue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from normlab.results import FINISHED
from normlab.sweep import slurm_queue
from normlab.sweep.job import Job
from normlab.sweep.pool import Stopped, View, signals_as_exceptions
from normlab.sweep.state import RunState, read_state

_LOOK = 2.0  # seconds between looks at the runs
_ASK = 5.0  # seconds between questions to Slurm, which answers everybody
_SETTLE = 10.0  # seconds after the end of a task in which a shared file system may still show what was before
_LEAVE = 90.0  # seconds in which cancelled tasks save and leave the queue


class Follower:
    """Shows ``jobs``, each in its ``task``, until all have ended."""

    def __init__(self, jobs: Sequence[Job], view: View) -> None:
        self.jobs = list(jobs)
        self.view = view
        self._queue: dict[str, str] = {}
        self._asked = 0.0
        self._gone: dict[str, float] = {}  # task -> since when it is not in the queue

    def run(self) -> None:
        """Raises Stopped after Ctrl-C, when the tasks have been cancelled."""
        with signals_as_exceptions():
            try:
                while self._look():
                    self.view.show(self.jobs)
                    time.sleep(_LOOK)
            except Stopped:
                self._cancel()
                raise
            finally:
                self.view.close(self.jobs)

    def _look(self) -> bool:
        """Look at every job that is open; returns whether some still are."""
        self._ask()
        for job in self.jobs:
            if job.is_open:
                self._judge(job, read_state(job.run_dir, job.treatment_hash))
        return any(job.is_open for job in self.jobs)

    def _ask(self) -> None:
        now = time.monotonic()
        if now - self._asked < _ASK or (answer := slurm_queue.states()) is None:
            return
        self._queue, self._asked = answer, now
        for task in {job.task for job in self.jobs if job.task}:
            if task in answer:
                self._gone.pop(task, None)
            else:
                self._gone.setdefault(task, now)

    def _judge(self, job: Job, state: RunState) -> None:
        job.take(state)
        gone = self._gone.get(job.task or "")
        if state.status in FINISHED:
            job.status, job.ended = state.status, time.monotonic()
        elif state.status == "running" and (gone is None or state.holder):
            if job.status != "running":
                job.status, job.began, job.first_step = "running", time.monotonic(), job.step
        elif gone is None:
            # In a task that runs it waits for its turn.
            job.status = "waiting" if self._queue.get(job.task or "") == "RUNNING" else "queued"
        elif time.monotonic() - gone > _SETTLE:
            job.ended = time.monotonic()
            log = job.run_dir.parents[1] / slurm_queue.FOLDER / f"{job.task}_0_log.out"
            job.status = "interrupted" if state.status == "interrupted" else "failed"
            job.error = state.error or f"its Slurm task {job.task} ended before it; what that said: {log}"

    def _cancel(self) -> None:
        """A second Ctrl-C ends the waiting."""
        left = {job.task for job in self.jobs if job.is_open and job.task}
        slurm_queue.cancel(sorted(left))
        deadline = time.monotonic() + _LEAVE
        with contextlib.suppress(KeyboardInterrupt):
            while left and time.monotonic() < deadline:
                time.sleep(_LOOK)
                if (answer := slurm_queue.states()) is not None:
                    left &= set(answer)
        for job in self.jobs:
            if job.is_open:
                job.take(state := read_state(job.run_dir, job.treatment_hash))
                job.status = state.status if state.status in FINISHED else "interrupted"
                job.error = "interrupted; the same command resumes it"
