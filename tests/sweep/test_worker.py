"""A slot's process runs cell after cell, and each as if it were alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from normlab.config.schema import Config
from normlab.sweep import serve
from normlab.sweep.job import Job
from normlab.sweep.pool import Pool
from normlab.sweep.slots import Slot
from normlab.sweep.view import PlainView
from normlab.sweep.worker import Worker

Maker = Callable[..., list[Job]]
SAID = ["python stdout", "python stderr", "descriptor 1", "descriptor 2", "C stdout", "a child"]


def run(jobs: Sequence[Job], threads: int = 1) -> list[str]:
    """The statuses of jobs that one slot has run."""
    Pool(jobs, [Worker(Slot(threads))], PlainView()).run()
    return [job.status for job in jobs]


def process(job: Job) -> tuple[int, str]:
    """The process that ran it, and the threads that it was told of."""
    pid, threads = (job.run_dir / "process").read_text().split()
    return int(pid), threads


def finish(worker: Worker) -> int:
    """The exit code of the cell that it runs."""
    return int(wait_for(worker.poll))


def wait_for(look: Callable[[], object]) -> Any:
    """The first thing that is there when looking, within two minutes."""
    for _ in range(6000):
        if (seen := look()) is not None:
            return seen
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@pytest.fixture
def worker() -> Iterator[Worker]:
    ours = Worker(Slot(1))
    yield ours
    ours.end(patience=0)


def test_cells_share_a_process_until_one_fails(behaviour: dict[int, str], make_jobs: Maker) -> None:
    behaviour[1] = "fails"
    jobs = make_jobs(4)
    assert run(jobs, threads=3) == ["done", "failed", "done", "done"]
    pids = [process(job)[0] for job in jobs]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert {process(job)[1] for job in jobs} == {"3"}, "said before anything is imported"


@pytest.mark.parametrize(
    ("keys", "shared"),
    [
        ({"optim": {"lr": 0.5}}, True),
        ({"train": {"steps": 5, "threads": 2}}, False),
        ({"train": {"steps": 5, "device": "cpu"}}, False),
        ({"norm": {"files": {"mine.py": "a digest"}}}, False),
    ],
)
def test_a_cell_that_needs_another_process_gets_one(
    keys: dict[str, Any], shared: bool, behaviour: dict[int, str], make_jobs: Maker
) -> None:
    first, second = make_jobs(2)
    plain = {"runs_dir": second.config.runs_dir, "seed": 1, "train": {"steps": 5}} | keys
    second = Job(second.overrides, Config.model_validate(plain))
    assert run([first, second]) == ["done", "done"]
    assert (process(first)[0] == process(second)[0]) == shared


def test_each_cell_has_all_that_it_says_in_its_own_log(behaviour: dict[int, str], make_jobs: Maker) -> None:
    behaviour.update(dict.fromkeys(range(3), "talks"))
    jobs = make_jobs(3)
    assert run(jobs) == ["done"] * 3
    assert len({process(job)[0] for job in jobs}) == 1
    for job in jobs:
        lines = job.log.read_text().splitlines()
        assert sorted(line for line in lines if line in SAID) == sorted(SAID)
        assert sum("UserWarning: a warning" in line for line in lines) == 1


def test_a_process_that_died_between_two_cells_is_replaced(
    behaviour: dict[int, str], make_jobs: Maker, worker: Worker
) -> None:
    pids = []
    for job in make_jobs(2):
        job.run_dir.mkdir(parents=True)
        worker.run([str(job.run_dir), "ok", "1"], job.log, "", "", "")
        assert finish(worker) == 0
        pids.append(process(job)[0])
        assert worker.pid == pids[-1]
        os.kill(pids[-1], signal.SIGKILL)
        wait_for(lambda: worker.is_gone or None)
    assert pids[0] != pids[1]


def test_a_process_that_is_no_longer_wanted_leaves(behaviour: dict[int, str], make_jobs: Maker, worker: Worker) -> None:
    (job,) = make_jobs(1)
    job.run_dir.mkdir(parents=True)
    worker.run([str(job.run_dir), "ok", "1"], job.log, "", "", "")
    assert finish(worker) == 0 and not worker.is_gone
    worker.dismiss()
    wait_for(lambda: worker.is_gone or None)


def test_compiled_code_is_kept_for_placements_and_not_for_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[int] = []
    dynamo = SimpleNamespace(reset=lambda: resets.append(1), config=SimpleNamespace(recompile_limit=8))
    monkeypatch.setitem(sys.modules, "torch._dynamo", dynamo)
    compiled = serve._CompiledCode()
    for placement in range(serve._PLACEMENTS):
        compiled.expect("wide", str(placement % serve._PLACEMENTS))
    resets.clear()
    compiled.expect("wide", "0")
    assert not resets and dynamo.config.recompile_limit > 1000, "beyond its limit dynamo goes on without compiling"
    compiled.expect("narrow", "0")
    assert len(resets) == 1
    for placement in range(serve._PLACEMENTS + 1):
        compiled.expect("narrow", str(placement))
    assert len(resets) == 2, "memory has an end"


@pytest.mark.parametrize("compile", ["off", pytest.param("on", marks=pytest.mark.slow)])
def test_a_run_after_others_is_bit_for_bit_what_it_is_alone(
    compile: str, tiny: Callable[..., list[str]], tmp_path: Path, worker: Worker
) -> None:
    short = [
        "train.steps=6",
        "optim.warmup_steps=2",
        "eval.every=3",
        "observe.probe_every=3",
        f"train.compile={compile}",
    ]

    def trained(where: str, placements: Sequence[str]) -> tuple[bytes, ...]:
        """What the last of the runs wrote."""
        for placement in placements:
            words = tiny(*short, f"placement={placement}", f"runs_dir={tmp_path / where}")
            worker.run(["train", *words], tmp_path / f"{where}.txt", where, "", placement)
            assert finish(worker) == 0, (tmp_path / f"{where}.txt").read_text()
        folder = max(tmp_path.glob(f"{where}/*/*/seed0"), key=lambda path: path.stat().st_mtime)
        assert folder.parent.name.startswith(placements[-1])
        return tuple((folder / name).read_bytes() for name in ("metrics.jsonl", "probes.jsonl"))

    after = trained("together", ["pre", "layernorm_scaling", "hybrid"])
    assert after == trained("alone", ["hybrid"]), "`where` is what it needs: a process of its own"
