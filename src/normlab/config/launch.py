"""Where the cells of a sweep run: the keys of each engine, and that a key is not set where nothing reads it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from normlab.placement.schema import Strict

# Which engine reads a key that not all of them do.
_READ_BY = {
    "slurm": (
        "wait", "cells_per_task", "gpus", "cpus", "memory", "minutes", "grace",
        "partition", "account", "extra", "setup",
    ),
    "ray": ("address",),
}  # fmt: skip


class LaunchConfig(Strict):
    """How the cells of a sweep run. None of it changes a number of a run."""

    name: str = "local"
    engine: Literal["local", "slurm", "ray"] = "local"
    jobs: int | None = Field(None, ge=1)  # cells at once, of slurm: tasks; None: as many as there is room for
    threads: int = Field(1, ge=1)  # CPU threads per cell
    per_gpu: int = Field(1, ge=1)  # cells that share a GPU

    # slurm: an array job, whose tasks run their cells as a sweep on one machine would.
    wait: bool = True  # stay until all is done; false: submit and leave
    cells_per_task: int = Field(1, ge=1)  # small cells share a start-up and compiled code
    gpus: int = Field(0, ge=0)  # per task
    cpus: int | None = Field(None, ge=1)  # per task; None: the threads of the cells that it runs at once
    memory: str | None = Field(None, pattern=r"^\d+[KMGT]?$")  # per task, as sbatch takes it: 16G
    minutes: int = Field(240, ge=1)  # limit of a task; one that reaches it saves, and is requeued
    grace: int = Field(120, ge=1)  # seconds before the limit in which cells save
    partition: str | None = None
    account: str | None = None
    extra: dict[str, str | int | float | bool] = {}  # any other option of sbatch: {qos: high, constraint: a100}
    setup: list[str] = []  # shell lines before a task: [module load cuda]

    # ray
    address: str | None = None  # None: $RAY_ADDRESS, else a cluster that runs here, else one that is started

    @property
    def cells_at_once(self) -> int:
        """Of a task of slurm: as many as its GPUs, or its cores, have room for."""
        if self.gpus:
            return self.gpus * self.per_gpu
        return max(1, (self.cpus or self.threads) // self.threads)

    @model_validator(mode="after")
    def _each_key_has_an_effect(self) -> LaunchConfig:
        for engine, keys in _READ_BY.items():
            for key in keys if self.engine != engine else ():
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"launch.{key} is read by launch={engine} only, and this is launch={self.name}")
        if self.engine == "slurm" and self.per_gpu > 1 and not self.gpus:
            raise ValueError(f"launch.per_gpu={self.per_gpu} needs GPUs to share: set launch.gpus, the number per task")
        if self.grace >= 60 * self.minutes:
            raise ValueError(f"launch.grace={self.grace} seconds leaves nothing of launch.minutes={self.minutes}")
        return self
