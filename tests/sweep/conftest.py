"""Sweeps of stand-in runs: nothing is trained, processes, signals, locks and files are real."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from normlab.config.schema import Config
from normlab.sweep import pool, worker
from normlab.sweep.job import Job

STAND_IN = Path(__file__).with_name("stand_in_run.py")


@pytest.fixture
def behaviour(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """seed -> ok (default), diverges, talks, fails, mistake, killed, overtaken, slow, stubborn, unsaved, saves, at_end,
    read_only."""
    how: dict[int, str] = {}

    def command(job: Job) -> list[str]:
        return [str(job.run_dir), how.get(job.config.seed, "ok"), str(job.config.train.steps)]

    monkeypatch.setattr(worker, "COMMAND", (sys.executable, str(STAND_IN)))
    monkeypatch.setattr(pool, "train_command", command)
    return how


@pytest.fixture
def make_jobs(tmp_path: Path) -> Callable[..., list[Job]]:
    """``make_jobs(3)``: three jobs that differ in their seed, all in the same folder of runs."""

    def make(count: int, steps: int = 5) -> list[Job]:
        return [
            Job((f"seed={seed}",), Config(runs_dir=str(tmp_path / "runs"), seed=seed, train={"steps": steps}))
            for seed in range(count)
        ]

    return make
