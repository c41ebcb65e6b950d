"""One cell of a sweep while it is being run."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from normlab.config.identity import run_dir, treatment_hash
from normlab.config.overrides import key_of
from normlab.config.schema import Config
from normlab.sweep.slots import Slot
from normlab.sweep.state import RunState
from normlab.sweep.worker import Worker

_OPEN = ("waiting", "queued", "running", "elsewhere")
# Parts of a configuration that the shapes in compiled code do not depend on.
_SHAPELESS = {
    "experiment", "scale", "seed", "init", "placement", "optim", "eval", "observe", "checkpoint", "wandb", "launch",
    "runs_dir",
}  # fmt: skip


@dataclass
class Job:
    """``status``: waiting, queued (by Slurm), running, elsewhere (another process's), done, diverged, failed or
    interrupted."""

    overrides: tuple[str, ...]
    config: Config
    status: str = "waiting"
    was_finished: bool = False  # before this sweep began
    error: str | None = None
    step: int = 0
    loss: float | None = None
    val_loss: float | None = None
    spikes: int | None = None
    worker: Worker | None = None  # while running, where this process runs it
    task: str | None = None  # of Slurm's that runs it
    losses: int = 0  # of a worker, with its machine or without
    began: float = 0.0  # monotonic seconds
    ended: float = 0.0
    first_step: int = 0  # where this piece of the run began
    log_start: int = 0  # byte of the log where this piece began
    run_dir: Path = field(init=False)
    treatment_hash: str = field(init=False)

    def __post_init__(self) -> None:
        self.run_dir, self.treatment_hash = run_dir(self.config), treatment_hash(self.config)

    @property
    def is_open(self) -> bool:
        return self.status in _OPEN

    @property
    def log(self) -> Path:
        return self.run_dir / "log.txt"

    @property
    def steps(self) -> int:
        return self.config.train.steps

    @property
    def seconds_left(self) -> float | None:
        """From the pace of this piece of the run; None before its first steps."""
        made = self.step - self.first_step
        if self.status != "running" or made <= 0:
            return None
        return (time.monotonic() - self.began) / made * (self.steps - self.step)

    @property
    def shapes(self) -> str:
        """Whatever the shapes in the cell's compiled code depend on, and a little more."""
        return self.config.model_dump_json(exclude=_SHAPELESS)

    @property
    def placement(self) -> str:
        """What the rest of its compiled code depends on."""
        return self.config.placement.model_dump_json(by_alias=True)

    @property
    def needs(self) -> str:
        """What a process settles for good, so that cells that differ in it cannot have the same one."""
        return json.dumps([self.config.train.threads, self.config.train.device, self.config.norm.files])

    def in_slot(self, slot: Slot) -> Job:
        """The job as the slot runs it: with the slot's threads, unless the user asked for others."""
        if self.config.train.threads is not None:
            return self
        return replace(self, overrides=(*self.overrides, f"train.threads={slot.threads}"))

    def take(self, state: RunState) -> None:
        """What the disk says about the run."""
        self.step, self.spikes = state.step, state.spikes
        self.loss = state.loss if state.loss is not None else self.loss
        self.val_loss = state.val_loss if state.val_loss is not None else self.val_loss


def varying(jobs: Sequence[Job]) -> list[str]:
    """The keys of which the jobs' overrides do not all say the same, the seed last."""
    said = [{key_of(override): override for override in job.overrides} for job in jobs]
    keys = dict.fromkeys(key for overrides in said for key in overrides)
    found = [key for key in keys if len({overrides.get(key) for overrides in said}) > 1]
    return sorted(found, key=lambda key: key == "seed")


def setting(job: Job, key: str) -> str:
    """The value that the job's overrides give to ``key``; empty where they give none."""
    values = [override.partition("=")[2] for override in job.overrides if key_of(override) == key]
    return values[-1].strip("'\"") if values else ""
