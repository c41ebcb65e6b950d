"""Runs side by side in slots: a process per slot, finished runs skipped, nothing left behind at the end."""

from __future__ import annotations

import contextlib
import errno
import signal
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Protocol

from normlab.config.compose import chosen_config_dir
from normlab.config.lock import EXIT_LOCKED, lock_holder
from normlab.errors import EXIT_DISK
from normlab.files import unwritable
from normlab.results import FINISHED
from normlab.sweep.job import Job
from normlab.sweep.state import last_line, last_metrics, read_state
from normlab.sweep.worker import Worker, WorkerLost

GRACE = 30.0  # seconds from SIGTERM to SIGKILL on this machine: a run writes its checkpoint in between
_TICK = 0.1  # seconds between looks at the processes
_LOOK = 1.0  # seconds between looks at the files of a run
_LOSSES = 3  # of a worker, after which its cell is taken to be the reason
_STOPPED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class View(Protocol):
    """What shows a sweep while it runs."""

    def show(self, jobs: Sequence[Job]) -> None: ...

    def close(self, jobs: Sequence[Job]) -> None: ...


class Stopped(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGUSR1 came; ``signum`` says which."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def train_command(job: Job) -> list[str]:
    """What runs one cell: what a person would type behind ``normlab``."""
    command = ["train"]
    if folder := chosen_config_dir():
        command += ["--config-dir", str(folder)]
    return [*command, *job.overrides]


class Pool:
    """Gives ``jobs`` to ``workers`` until all have ended; one that fails does not stop the others."""

    def __init__(self, jobs: Sequence[Job], workers: Sequence[Worker], view: View, grace: float = GRACE) -> None:
        self.jobs = list(jobs)
        self.view = view
        self._grace = grace
        self._workers = list(workers)
        self._free = list(self._workers)
        self._looked = 0.0

    def run(self) -> list[Job]:
        """The jobs with their final status. Raises Stopped after the runs have been ended and have saved."""
        with signals_as_exceptions():
            try:
                for job in self.jobs:
                    self._look_at_folder(job)
                while any(job.is_open for job in self.jobs):
                    self._collect()
                    self._fill_slots()
                    self._look_at_metrics()
                    self.view.show(self.jobs)
                    time.sleep(_TICK)
            finally:
                self.stop()
                self.view.close(self.jobs)
        return self.jobs

    def _look_at_folder(self, job: Job) -> None:
        """Finished runs are skipped, a run that another process trains is waited for, others are to do."""
        state = read_state(job.run_dir, job.treatment_hash)
        job.take(state)
        # That of a worker that was lost writes no more, however short ago it wrote.
        if state.status == "running" and (state.holder or not job.losses):
            job.status = "elsewhere"
        elif state.status in FINISHED:
            job.status, job.was_finished = state.status, job.status != "elsewhere"
        else:
            job.status = "waiting"

    def _fill_slots(self) -> None:
        # Runs that are elsewhere come last: by then they may be finished, or dropped by whoever had them.
        for job in [job for job in self.jobs if job.status == "waiting"]:
            worker = next((worker for worker in self._free if worker.is_ready), None)
            if worker is None:
                return
            self._look_at_folder(job)
            if job.status == "waiting":
                self._free.remove(worker)
                self._start(job, worker)
        if not any(job.status in ("waiting", "elsewhere") for job in self.jobs):
            for worker in self._free:  # its memory may be of use to the others
                worker.dismiss()

    def _start(self, job: Job, worker: Worker) -> None:
        try:
            job.run_dir.mkdir(parents=True, exist_ok=True)
            job.log_start = job.log.stat().st_size if job.log.exists() else 0
            words = train_command(job.in_slot(worker.slot))
            worker.run(words, job.log, job.needs, job.shapes, job.placement)
        except OSError as error:  # other cells may lie on another disk, and this one may get free again
            self._free.append(worker)
            job.status, job.error = "failed", str(unwritable(job.log, error))
            return
        job.worker, job.status, job.began, job.first_step = worker, "running", time.monotonic(), job.step

    def _collect(self) -> None:
        for job in self.jobs:
            if job.worker is None:
                continue
            try:
                code = job.worker.poll()
            except WorkerLost as loss:
                self._free.append(job.worker)
                self._try_again(job, str(loss))
                continue
            if code is not None:
                self._free.append(job.worker)
                job.worker, job.ended = None, time.monotonic()
                self._judge(job, code)

    def _try_again(self, job: Job, reason: str) -> None:
        """From its last checkpoint, on whichever worker there is."""
        job.losses += 1
        job.worker, job.status = None, "waiting"
        if job.losses > _LOSSES:
            job.status, job.error, job.ended = "failed", f"{reason}, {job.losses} times", time.monotonic()

    def _judge(self, job: Job, code: int) -> None:
        """What became of a run that ended with ``code``: its summary says, if there is one."""
        if code == EXIT_LOCKED:
            job.status, job.began, job.ended = "elsewhere", 0.0, 0.0
            return
        state = read_state(job.run_dir, job.treatment_hash)
        job.take(state)
        line = last_line(job.log, job.log_start)
        said = line.removeprefix("normlab: ")
        if code == 0 and state.status in FINISHED:
            job.status = state.status
        elif code in [sign for number in _STOPPED for sign in (128 + number, -number)]:
            job.status, job.error = "interrupted", "interrupted; the same command resumes it"
        elif code == EXIT_DISK and said == line:  # it did not get so far as to say why: the log is on that disk, too
            job.status, job.error = "failed", str(unwritable(job.run_dir, OSError(errno.ENOSPC, "")))
        elif code < 0:
            name = signal.Signals(-code).name
            job.status = "failed"
            job.error = f"killed by {name}" + (", out of memory?" if name == "SIGKILL" else "")
        else:
            job.status = "failed"
            # A user's mistake is one line on stderr; a traceback may have other lines after it.
            job.error = (
                said if code in (2, EXIT_DISK) else state.error or said
            ) or f"ended with code {code} and without a summary"

    def _look_at_metrics(self) -> None:
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        for job in self.jobs:
            if job.status == "elsewhere" and lock_holder(job.run_dir) is None:
                self._look_at_folder(job)
            if job.status in ("running", "elsewhere"):
                step, loss, val_loss = last_metrics(job.run_dir)
                job.step = max(job.step, step)
                job.loss = loss if loss is not None else job.loss
                job.val_loss = val_loss if val_loss is not None else job.val_loss

    def stop(self) -> None:
        """SIGTERM, time to save, SIGKILL for whatever is left. A second Ctrl-C ends the waiting."""
        running = [job for job in self.jobs if job.worker is not None]
        for worker in self._workers:
            if worker not in self._free:  # which also holds for one whose job does not know of it yet
                worker.interrupt()
            worker.dismiss()  # one whose cell was at its end has not died of that, and waits for the next
        deadline = time.monotonic() + self._grace
        with contextlib.suppress(KeyboardInterrupt):
            while not all(worker.is_gone for worker in self._workers) and time.monotonic() < deadline:
                time.sleep(_TICK)
        for worker in self._workers:
            worker.end(patience=0)
        for job in running:
            job.take(state := read_state(job.run_dir, job.treatment_hash))
            job.worker, job.ended = None, time.monotonic()
            if state.status in FINISHED:
                job.status = state.status
            else:
                job.status, job.error = "interrupted", "interrupted; the same command resumes it"


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Within it, SIGINT, SIGTERM and SIGUSR1 raise Stopped; the last two once."""

    def stop(signum: int, frame: FrameType | None) -> None:
        ignore_repeats()
        raise Stopped(signum)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_repeats() -> None:
    """From now on only a person's second Ctrl-C is heard: a batch system may say the same twice in milliseconds."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
