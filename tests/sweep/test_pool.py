"""The pool: skips, resumes, survives failures, leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from normlab.config.lock import lock_holder, run_lock
from normlab.config.schema import LaunchConfig
from normlab.results import read_summary
from normlab.sweep import slots as slots_module
from normlab.sweep.job import Job, varying
from normlab.sweep.pool import Pool, Stopped, train_command
from normlab.sweep.slots import Slot, slots
from normlab.sweep.state import read_state
from normlab.sweep.summary import print_summary
from normlab.sweep.view import LiveView, PlainView
from normlab.sweep.worker import Worker

STAND_IN = Path(__file__).with_name("stand_in_run.py")
Maker = Callable[..., list[Job]]


def run(jobs: Sequence[Job], places: int = 4, grace: float = 30.0) -> list[str]:
    Pool(jobs, [Worker(Slot(1)) for _ in range(places)], PlainView(), grace).run()
    return [job.status for job in jobs]


def starts(job: Job) -> int:
    return len((job.run_dir / "starts").read_text())


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_runs_all_and_skips_them_the_next_time(behaviour: dict[int, str], make_jobs: Maker) -> None:
    behaviour[1] = "diverges"
    assert run(make_jobs(3), places=2) == ["done", "diverged", "done"]
    again = make_jobs(3)
    assert run(again) == ["done", "diverged", "done"]
    assert all(job.was_finished and starts(job) == 1 for job in again)


def test_a_failure_is_reported_and_the_rest_carry_on(
    behaviour: dict[int, str], make_jobs: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    behaviour.update({0: "fails", 1: "mistake", 2: "killed"})
    jobs = make_jobs(4)
    assert run(jobs, places=1) == ["failed", "failed", "failed", "done"]
    assert [job.error for job in jobs] == [
        "ValueError: the reason",
        "the remedy",
        "killed by SIGKILL, out of memory?",
        None,
    ]
    print_summary(jobs)
    printed = capsys.readouterr().out
    assert "4 cells: 3 failed, 1 done" in printed
    assert f"failed: seed=0: ValueError: the reason ({jobs[0].run_dir}/log.txt)" in printed


def test_what_was_cut_or_failed_is_started_again_and_goes_on(behaviour: dict[int, str], make_jobs: Maker) -> None:
    behaviour.update({0: "fails", 1: "killed"})
    run(make_jobs(2))
    behaviour.clear()
    again = make_jobs(2)
    assert run(again) == ["done", "done"]
    assert [starts(job) for job in again] == [2, 2]
    steps = (again[0].run_dir / "metrics.jsonl").read_text().splitlines()
    assert len(steps) == 5, "it went on behind its first step"


def test_no_more_runs_at_once_than_slots(behaviour: dict[int, str], make_jobs: Maker) -> None:
    most = 0

    class Counting:
        def show(self, jobs: Sequence[Job]) -> None:
            nonlocal most
            most = max(most, sum(job.worker is not None for job in jobs))

        def close(self, jobs: Sequence[Job]) -> None: ...

    Pool(make_jobs(5), [Worker(Slot(1)), Worker(Slot(1))], Counting()).run()
    assert most == 2


@pytest.mark.parametrize("how", ["slow", "stubborn"])
def test_ctrl_c_lets_runs_save_and_leaves_none(how: str, behaviour: dict[int, str], make_jobs: Maker) -> None:
    behaviour.update({0: how, 1: how})
    jobs = make_jobs(3, steps=10_000)
    pids: list[int] = []

    def interrupt() -> None:
        try:
            wait_for(lambda: all((job.run_dir / "metrics.jsonl").exists() for job in jobs[:2]))
            pids.extend(job.worker.pid for job in jobs[:2] if job.worker)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Stopped) as stop:
        run(jobs, places=2, grace=1.0)
    assert stop.value.signum == signal.SIGINT
    assert len(pids) == 2 and not any(map(alive, pids))
    assert [job.status for job in jobs] == ["interrupted", "interrupted", "waiting"]
    assert read_state(jobs[0].run_dir).status == "interrupted"
    assert read_summary(jobs[0].run_dir).get("signal") == {"slow": signal.SIGTERM, "stubborn": None}[how]


@pytest.fixture
def patient() -> Iterator[None]:
    """A signal that comes before or after the sweep does not end the tests."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def tell_when_begun(job: Job, *numbers: int) -> None:
    """These signals to this process, within milliseconds, as soon as the run has made a step."""

    def tell() -> None:
        try:
            wait_for((job.run_dir / "metrics.jsonl").exists)
        finally:
            for number in numbers:
                os.kill(os.getpid(), number)
                time.sleep(0.05)

    threading.Thread(target=tell).start()


@pytest.mark.usefixtures("patient")
def test_a_batch_system_that_says_it_twice_kills_no_cell_that_saves(
    behaviour: dict[int, str], make_jobs: Maker
) -> None:
    behaviour[0] = "saves"
    (job,) = make_jobs(1, steps=10_000)
    tell_when_begun(job, signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1)
    with pytest.raises(Stopped):
        run([job])
    assert read_summary(job.run_dir)["status"] == "interrupted"


@pytest.mark.usefixtures("patient")
def test_a_cell_that_a_stop_finds_at_its_end_is_done(behaviour: dict[int, str], make_jobs: Maker) -> None:
    behaviour[0] = "at_end"
    (job,) = make_jobs(1, steps=1)
    worker, processes = Worker(Slot(1)), set()

    class Noting:
        def show(self, jobs: Sequence[Job]) -> None:
            processes.add(worker._process)

        def close(self, jobs: Sequence[Job]) -> None: ...

    tell_when_begun(job, signal.SIGTERM)
    with pytest.raises(Stopped):
        Pool([job], [worker], Noting()).run()
    (process,) = processes
    assert job.status == "done" and process is not None and process.returncode == 0, "it was not killed"


@pytest.mark.usefixtures("patient")
def test_a_signal_while_a_cell_is_started_leaves_no_worker(
    behaviour: dict[int, str], make_jobs: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour[0] = "slow"
    (job,) = make_jobs(1, steps=10_000)
    worker, processes = Worker(Slot(1)), []
    begin = worker.run

    def run_and_hear(*order: str) -> None:
        begin(*order)
        processes.append(worker._process)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(worker, "run", run_and_hear)
    with pytest.raises(Stopped):
        Pool([job], [worker], PlainView()).run()
    (process,) = processes
    assert process.returncode == -signal.SIGTERM, "told to leave, not killed after the grace"


def test_what_a_disk_refused_is_said_as_the_run_said_it(behaviour: dict[int, str], make_jobs: Maker) -> None:
    behaviour[0] = "read_only"
    (job,) = make_jobs(1)
    assert run([job]) == ["failed"] and job.error == "cannot write it: Read-only file system"


def test_a_run_that_another_machine_writes_is_not_started_again(behaviour: dict[int, str], make_jobs: Maker) -> None:
    lost, other = make_jobs(2)
    for job in (lost, other):
        job.run_dir.mkdir(parents=True)
        (job.run_dir / "summary.json").write_text('{"status": "running"}')
        (job.run_dir / ".lock").write_text("node7:123\n")
    lost.losses = 1  # of a worker of this sweep, on that machine
    finished = '{"status": "done", "final": {}}'
    threading.Timer(1.0, (other.run_dir / "summary.json").write_text, [finished]).start()
    assert run([lost, other]) == ["done", "done"]
    assert starts(lost) == 1 and not (other.run_dir / "starts").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")
def test_a_killed_sweep_leaves_no_orphans(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom normlab.sweep import worker\n"
        "from normlab.sweep.slots import Slot\n"
        f"run_dir = Path({str(run_dir)!r}); run_dir.mkdir()\n"
        f"worker.COMMAND = (sys.executable, {str(STAND_IN)!r})\n"
        "ours = worker.Worker(Slot(1))\n"
        "ours.run([str(run_dir), 'slow', '10000'], run_dir / 'log', '', '', '')\n"
        "print(ours.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for((run_dir / "metrics.jsonl").exists)
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(child))
    assert read_state(run_dir).status == "interrupted"


def test_a_run_of_another_process_is_waited_for_and_not_repeated(behaviour: dict[int, str], make_jobs: Maker) -> None:
    jobs = make_jobs(2)
    other = subprocess.Popen([sys.executable, str(STAND_IN), str(jobs[0].run_dir), "slow", "10"])
    wait_for(lambda: lock_holder(jobs[0].run_dir))
    assert run(jobs) == ["done", "done"]
    assert starts(jobs[0]) == 1 and not jobs[0].was_finished
    assert other.wait() == 0


def test_a_run_that_another_process_dropped_is_taken_over(behaviour: dict[int, str], make_jobs: Maker) -> None:
    jobs = make_jobs(1)
    other = subprocess.Popen([sys.executable, str(STAND_IN), str(jobs[0].run_dir), "slow", "10000"])
    wait_for(lambda: lock_holder(jobs[0].run_dir))
    threading.Timer(0.5, other.kill).start()
    assert run(jobs) == ["done"]
    assert starts(jobs[0]) == 2
    other.wait()


def test_a_run_that_finds_its_folder_locked_is_tried_again(behaviour: dict[int, str], make_jobs: Maker) -> None:
    behaviour[0] = "overtaken"
    jobs = make_jobs(1)
    assert run(jobs) == ["done"]
    assert starts(jobs[0]) == 2


def test_the_lock_has_one_holder(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    with run_lock(tmp_path):
        assert lock_holder(tmp_path) == f"{socket.gethostname()}:{os.getpid()}"
        done = subprocess.run([sys.executable, str(STAND_IN), str(tmp_path), "ok", "1"], capture_output=True, text=True)
        assert done.returncode == 75
        assert f"is being trained by process {socket.gethostname()}:{os.getpid()}" in done.stderr
    assert lock_holder(tmp_path) is None


def test_a_summary_of_another_treatment_does_not_count(behaviour: dict[int, str], make_jobs: Maker) -> None:
    (job,) = make_jobs(1)
    job.run_dir.mkdir(parents=True)
    (job.run_dir / "summary.json").write_text('{"status": "done", "treatment_hash": "00000000"}')
    assert run([job]) == ["done"] and starts(job) == 1


def test_slots_are_gpus_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [slot.gpu for slot in slots(LaunchConfig(), "auto")] == ["2", "5"]
    assert [slot.gpu for slot in slots(LaunchConfig(jobs=3), "cuda")] == ["2", "5", "2"]
    assert slots(LaunchConfig(), "auto")[1].environment["CUDA_VISIBLE_DEVICES"] == "5"
    monkeypatch.setattr(slots_module, "_cores", lambda: 8)
    assert slots(LaunchConfig(threads=3), "cpu") == [Slot(3), Slot(3)]
    assert Slot(3).environment["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert len(slots(LaunchConfig(), "auto")) == 8


def test_a_cell_is_the_command_that_a_person_would_type(make_jobs: Maker) -> None:
    (job,) = make_jobs(1)
    assert train_command(job.in_slot(Slot(2))) == ["train", "seed=0", "train.threads=2"]
    own = Job(
        ("train.threads=5",),
        job.config.model_copy(update={"train": job.config.train.model_copy(update={"threads": 5})}),
    )
    assert own.in_slot(Slot(2)).overrides == ("train.threads=5",), "what the user says stays"


def test_both_views_show_every_job(make_jobs: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = make_jobs(3)
    jobs[0].status, jobs[0].loss, jobs[0].val_loss, jobs[0].step = "done", 2.5, 2.75, 5
    jobs[1].status, jobs[1].began, jobs[1].step = "running", time.monotonic() - 1, 1
    assert varying(jobs) == ["seed"]
    for view in (LiveView(), PlainView()):
        view.show(jobs)
        view.close(jobs)
        printed = capsys.readouterr().out
        assert "2.75" in printed and "running" in printed


def test_what_slurm_tells_every_process_of_a_task_kills_no_cell(behaviour: dict[int, str], make_jobs: Maker) -> None:
    """The sweep in the task hears SIGUSR2 too, and tells its cells."""
    (job,) = make_jobs(1)
    told: list[int] = []

    class Telling:
        def show(self, jobs: Sequence[Job]) -> None:
            if job.worker and job.worker.pid and (job.run_dir / "metrics.jsonl").exists() and not told:
                for number in (signal.SIGUSR1, signal.SIGUSR2):
                    os.kill(job.worker.pid, number)
                told.append(job.worker.pid)

        def close(self, jobs: Sequence[Job]) -> None: ...

    Pool([job], [Worker(Slot(1))], Telling()).run()
    assert told and job.status == "done" and starts(job) == 1


def test_a_run_on_another_machine_is_running_for_as_long_as_it_writes(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"status": "running"}')
    (tmp_path / ".lock").write_text("node7:123\n")
    assert read_state(tmp_path).status == "running", "whether or not its lock is seen here"
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    assert read_state(tmp_path).status == "interrupted"
    (tmp_path / "summary.json").write_text('{"status": "running"}')
    (tmp_path / ".lock").write_text(f"{socket.gethostname()}:123\n")
    assert read_state(tmp_path).status == "interrupted", "here the lock would be seen"
