"""Slurm without Slurm: what is submitted, how it is followed, what a task does when it is told to end."""

from __future__ import annotations

import itertools
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from normlab.cli import main
from normlab.config.compose import compose
from normlab.config.launch import LaunchConfig
from normlab.config.schema import Config
from normlab.errors import UserError
from normlab.experiment import grid
from normlab.results import read_summary
from normlab.sweep import follow, slurm, slurm_queue, slurm_task
from normlab.sweep.job import Job
from normlab.sweep.pool import Stopped
from normlab.sweep.slots import Slot, slots
from normlab.sweep.slurm_task import Share
from normlab.sweep.view import PlainView

Maker = Callable[..., list[Job]]
LAUNCH = LaunchConfig(name="slurm", engine="slurm")


class StandIn:
    """Slurm and submitit in this process: each look at the queue begins a task that waits, which runs to its end."""

    def __init__(self) -> None:
        self.waiting: dict[str, Share] = {}
        self.lost: set[str] = set()  # tasks that end without having run
        self.submitted: list[list[Share]] = []
        self.cancelled: list[str] = []
        self.stopped = False
        self.configs: dict[tuple[str, ...], Config] = {}  # what the overrides of a cell come to

    def submit_array(self, shares: list[Share]) -> list[SimpleNamespace]:
        self.submitted.append(shares)
        tasks = [f"{len(self.submitted)}_{index}" for index in range(len(shares))]
        self.waiting |= dict(zip(tasks, shares, strict=True))
        return [SimpleNamespace(job_id=task) for task in tasks]

    def states(self) -> dict[str, str]:
        seen = dict.fromkeys(self.waiting, "PENDING")
        if self.waiting and not self.stopped:
            task = next(iter(self.waiting))
            share = self.waiting.pop(task)
            if task not in self.lost:
                share()
        return seen

    def cancel(self, tasks: Sequence[str]) -> None:
        self.cancelled += tasks
        for task in tasks:
            self.waiting.pop(task, None)


@pytest.fixture
def cluster(behaviour: dict[int, str], make_jobs: Maker, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    ours = StandIn()
    ours.configs = {job.overrides: job.config for job in make_jobs(9)}
    monkeypatch.setattr(slurm, "_executor", lambda *given: ours)
    monkeypatch.setattr(slurm_queue, "states", ours.states)
    monkeypatch.setattr(slurm_queue, "cancel", ours.cancel)
    monkeypatch.setattr(grid, "config_of", ours.configs.__getitem__)
    for name, value in (("_LOOK", 0.01), ("_ASK", 0.0), ("_SETTLE", 0.0)):
        monkeypatch.setattr(follow, name, value)
    return ours


def run(jobs: list[Job], **keys: Any) -> list[str]:
    slurm.run(jobs, LAUNCH.model_copy(update=keys), PlainView())
    return [job.status for job in jobs]


def test_cells_run_in_tasks_and_are_not_submitted_again(cluster: StandIn, make_jobs: Maker) -> None:
    assert run(make_jobs(5), cells_per_task=2) == ["done"] * 5
    assert [len(share.cells) for share in cluster.submitted[0]] == [2, 2, 1]
    again = make_jobs(6)
    assert run(again) == ["done"] * 6
    assert [share.cells for share in cluster.submitted[1]] == [[("seed=5",)]], "what is done is skipped"
    assert [job.was_finished for job in again] == [True] * 5 + [False]


def test_a_cell_that_fails_says_why_and_the_rest_carry_on(
    cluster: StandIn, behaviour: dict[int, str], make_jobs: Maker
) -> None:
    behaviour.update({0: "fails", 1: "diverges"})
    jobs = make_jobs(3)
    assert run(jobs, cells_per_task=3) == ["failed", "diverged", "done"]
    assert jobs[0].error == "ValueError: the reason"


def test_a_task_that_slurm_lost_is_named(cluster: StandIn, make_jobs: Maker) -> None:
    cluster.lost = {"1_0"}
    jobs = make_jobs(2)
    assert run(jobs) == ["failed", "done"]
    assert "its Slurm task 1_0 ended before it" in str(jobs[0].error) and "slurm/1_0_0_log.out" in str(jobs[0].error)
    assert run(make_jobs(2)) == ["done", "done"], "the next sweep submits it again"


def test_what_is_in_the_queue_is_waited_for_by_a_sweep_that_comes_later(cluster: StandIn, make_jobs: Maker) -> None:
    cluster.stopped = True
    first = make_jobs(2)
    assert run(first, wait=False) == ["queued", "queued"] and first[0].is_open
    assert run(make_jobs(3), wait=False) == ["queued"] * 3
    assert [len(shares) for shares in cluster.submitted] == [2, 1]
    cluster.stopped = False
    assert run(make_jobs(3)) == ["done"] * 3 and len(cluster.submitted) == 2


def test_a_queue_that_does_not_answer_ends_nothing(
    cluster: StandIn, make_jobs: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = itertools.chain([None] * 20, itertools.repeat(1))
    real = cluster.states
    monkeypatch.setattr(slurm_queue, "states", lambda: real() if next(answers) else None)
    assert run(make_jobs(1)) == ["done"]


def test_what_may_be_queued_is_not_submitted_again_where_nobody_knows(
    cluster: StandIn, make_jobs: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.stopped = True
    run(make_jobs(2), wait=False)
    monkeypatch.setattr(slurm_queue, "states", lambda: None)
    with pytest.raises(UserError, match=r"squeue does not say whether task 1_0 .* is still queued: .*submitted\.jsonl"):
        run(make_jobs(3))
    assert len(cluster.submitted) == 1


def test_ctrl_c_cancels_the_tasks_of_this_sweep(cluster: StandIn, make_jobs: Maker) -> None:
    cluster.stopped = True
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    jobs = make_jobs(2)
    with pytest.raises(Stopped):
        run(jobs)
    assert cluster.cancelled == ["1_0", "1_1"] and [job.status for job in jobs] == ["interrupted"] * 2


def test_status_says_what_is_queued(
    cluster: StandIn, make_jobs: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.stopped = True
    run(make_jobs(2), wait=False)
    for job in make_jobs(2):
        job.run_dir.mkdir(parents=True)
    assert main(["status", "scratch", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "scratch: 2 runs: 2 queued" in capsys.readouterr().out
    cluster.waiting.clear()
    assert main(["status", "scratch", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "scratch: 2 runs: 2 missing" in capsys.readouterr().out, "somebody cancelled them"


def signal_after_a_step(job: Job, number: int) -> None:
    """Send this process a signal as soon as the run has made a step."""

    def wait() -> None:
        for _ in range(3000):
            if all((job.run_dir / name).exists() for name in ("summary.json", "metrics.jsonl")):
                break
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait).start()


def interrupted_share(job: Job) -> list[Any]:
    """What ``checkpoint`` said, called as submitit calls it: in a signal handler, which requeues and then leaves."""
    share = Share([job.overrides], None)
    said: list[Any] = []

    def leave(signum: int, frame: object) -> None:
        said.append(share.checkpoint())
        assert read_summary(job.run_dir)["status"] == "interrupted", "saved before it is requeued, which ends all"
        sys.exit(-1)

    before = signal.signal(signal.SIGUSR2, leave)
    signal_after_a_step(job, signal.SIGUSR2)
    try:
        with pytest.raises(SystemExit):
            share()
    finally:
        signal.signal(signal.SIGUSR2, before)
    return said


def test_a_task_near_its_limit_saves_and_goes_on_later(
    cluster: StandIn, behaviour: dict[int, str], make_jobs: Maker
) -> None:
    pytest.importorskip("submitit")
    behaviour[0] = "slow"
    (job,) = make_jobs(1, steps=30)
    cluster.configs[job.overrides] = job.config
    (said,) = interrupted_share(job)
    behaviour.clear()
    said.result()
    assert read_summary(job.run_dir)["status"] == "done"


def test_a_task_that_saved_no_step_is_not_requeued(
    cluster: StandIn, behaviour: dict[int, str], make_jobs: Maker
) -> None:
    pytest.importorskip("submitit")
    behaviour[0] = "unsaved"
    (job,) = make_jobs(1, steps=30)
    cluster.configs[job.overrides] = job.config
    assert interrupted_share(job) == [None], "whatever it logged"


def test_a_step_that_was_logged_before_a_kill_and_saved_now_is_one(
    cluster: StandIn, behaviour: dict[int, str], make_jobs: Maker
) -> None:
    pytest.importorskip("submitit")
    behaviour[0] = "slow"
    (job,) = make_jobs(1, steps=30)
    cluster.configs[job.overrides] = job.config
    (job.run_dir / "checkpoints").mkdir(parents=True)
    (job.run_dir / "checkpoints" / "step_0000001.json").write_text("{}")
    (job.run_dir / "metrics.jsonl").write_text('{"step": 1}\n{"step": 25}\n')  # killed at 25
    (said,) = interrupted_share(job)
    assert said is not None


def test_a_signal_before_the_cells_are_known_requeues_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        assert Share([("seed=0",)], None).checkpoint() is None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "not requeued; set a longer launch.minutes" in capsys.readouterr().out


def test_cells_of_a_task_have_most_of_its_grace(
    cluster: StandIn, make_jobs: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    monkeypatch.setattr(
        slurm_task, "Pool", lambda jobs, workers, view, grace: SimpleNamespace(run=lambda: given.append(grace))
    )
    Share([("seed=0",)], None)()
    assert given == [0.8 * LaunchConfig().grace]


def test_a_task_that_is_preempted_saves(cluster: StandIn, behaviour: dict[int, str], make_jobs: Maker) -> None:
    behaviour[0] = "slow"
    (job,) = make_jobs(1, steps=30)
    cluster.configs[job.overrides] = job.config
    signal_after_a_step(job, signal.SIGTERM)
    with pytest.raises(Stopped):
        Share([job.overrides], None)()
    assert read_summary(job.run_dir)["signal"] == signal.SIGTERM


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Programs of Slurm's that do nothing; ``sbatch(text)``: what that of this name does."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def program(name: str, text: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(stat.S_IRWXU)

    for name in ("srun", "squeue"):
        program(name, "exit 0")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return lambda text: program("sbatch", text)


def submitted_script(launch: LaunchConfig, jobs: list[Job]) -> list[str]:
    slurm.run(jobs, launch.model_copy(update={"wait": False}), PlainView())
    (script,) = (jobs[0].run_dir.parents[1] / "slurm").glob("*_submission.sh")
    return script.read_text().splitlines()


def test_what_is_said_to_sbatch(sbatch: Callable[[str], None], make_jobs: Maker) -> None:
    pytest.importorskip("submitit")
    sbatch("echo Submitted batch job 42")
    launch = compose(
        ["launch=slurm", "launch.gpus=2", "launch.per_gpu=3", "launch.threads=2", "launch.cpus=24", "launch.minutes=90",
         "launch.grace=60", "launch.partition=a100", "launch.account=lab", "launch.memory=64G", "launch.jobs=2",
         "launch.extra={qos: high, exclusive: true}", "launch.setup=[module load cuda]"]
    ).launch  # fmt: skip
    script = submitted_script(launch, make_jobs(5))
    wanted = ["array=0-4%2", "gpus-per-node=2", "cpus-per-task=24", "time=90", "signal=USR2@60", "partition=a100",
              "account=lab", "mem=64G", "qos=high", "exclusive", "requeue", "job-name=normlab-scratch"]  # fmt: skip
    assert {f"#SBATCH --{words}" for words in wanted} <= set(script)
    assert script.index("module load cuda") < next(i for i, line in enumerate(script) if line.startswith("srun"))
    assert any(line.startswith("srun") and " --cpus-per-task=24 " in line for line in script), "it is not inherited"


def test_what_sbatch_refuses_is_one_line(
    sbatch: Callable[[str], None], make_jobs: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    sbatch("echo sbatch: error: invalid partition specified: gpuu >&2; exit 1")
    with pytest.raises(UserError, match=r"^Slurm did not take the job: .*invalid partition specified: gpuu"):
        run(make_jobs(1))


def test_what_is_missing_is_named(make_jobs: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'normlab\[slurm\]'"):
        run(make_jobs(1))


def test_no_slurm_is_one_line(make_jobs: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"Slurm did not take the job: .*srun"):
        run(make_jobs(1))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launch.partition=gpu"], "launch.partition is read by launch=slurm only, and this is launch=local"),
        (["launch=ray", "launch.wait=false"], "launch.wait is read by launch=slurm only"),
        (["launch=slurm", "launch.address=auto"], "launch.address is read by launch=ray only"),
        (["launch=slurm", "launch.per_gpu=2"], "launch.per_gpu=2 needs GPUs to share: set launch.gpus"),
        (["launch=slurm", "launch.minutes=2"], "launch.grace=120 seconds leaves nothing of launch.minutes=2"),
        (["launch=slrum"], "unknown launch 'slrum'; did you mean 'slurm'?"),
    ],
)
def test_a_key_that_nothing_would_read_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        compose(words)
    assert said in str(error.value)


def test_the_slots_of_a_task_are_what_slurm_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    four = slots(LAUNCH.model_copy(update={"gpus": 2, "per_gpu": 2}), "auto")
    assert [slot.gpu for slot in four] == ["3", "7", "3", "7"]
    assert slots(LAUNCH.model_copy(update={"cpus": 6, "threads": 2}), "auto") == [Slot(2, "")] * 3, "and no GPU"
    assert len(slots(LAUNCH.model_copy(update={"jobs": 50}), "auto")) == 1, "that is the number of tasks"


def test_gpus_are_shared_by_small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert [slot.gpu for slot in slots(LaunchConfig(per_gpu=2), "auto")] == ["0", "1", "0", "1"]
