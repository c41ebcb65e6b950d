"""Places on this machine where a run can stand: a GPU each, or a few CPU threads each."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from normlab.config.schema import LaunchConfig

# What the numerical libraries under torch and the tokenizers read when they start.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Slot:
    """One run at a time. ``gpu``: what CUDA_VISIBLE_DEVICES shall say; None on a machine without."""

    threads: int
    gpu: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, narrowed to the slot."""
        variables = dict(os.environ) | {name: str(self.threads) for name in _THREAD_VARIABLES}
        variables["PYTHONUNBUFFERED"] = "1"  # what a run prints stands in its log at once
        if self.gpu is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self.gpu
        return variables


def slots(launch: LaunchConfig, device: str) -> list[Slot]:
    """The slots that ``launch`` asks for on this machine; by itself as many as its GPUs, or its cores, have room for.

    More jobs than that share the GPUs in turn. ``device=cpu`` leaves the GPUs alone. Within a task of Slurm this
    machine is what the task was given.
    """
    if launch.engine == "slurm":
        gpus = _gpus_of_task() if launch.gpus and device != "cpu" else [""]
        jobs = launch.cells_at_once
    else:
        gpus = [] if device == "cpu" else visible_gpus()
        jobs = launch.jobs or launch.per_gpu * len(gpus) or max(1, _cores() // launch.threads)
    return [Slot(launch.threads, gpus[number % len(gpus)] if gpus else None) for number in range(jobs)]


def _gpus_of_task() -> list[str]:
    """What Slurm gave this task; at least one, so that a run which asks for CUDA says that there is none."""
    return visible_gpus() or [""]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use. Asks the driver, as importing torch takes seconds."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
        count = sum(line.startswith("GPU ") for line in listed.splitlines())
    except (OSError, subprocess.SubprocessError):
        driver = Path("/proc/driver/nvidia/gpus")
        count = len(list(driver.iterdir())) if driver.is_dir() else 0
    return [str(number) for number in range(count)]


def _cores() -> int:
    """The cores that this process may use: in a container or a batch job not all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
