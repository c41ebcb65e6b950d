"""A real Slurm on this machine: an array job, a preemption, a time limit in the middle of a cell, the same table."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm_single_node.sh"
TABLES = ("table.md", "table.tex", "table.csv")
# Cells that take long enough to be cut, and save nothing before somebody tells them to.
EXPERIMENT = """
question: does a cluster change a number?
overrides: [scale=smoke, data=files, "data.paths=[{corpus}]", data.tokenizer.kind=bytes, wandb=disabled,
            train.compile=off, train.precision=fp32, train.steps=2500, eval.every=500, checkpoint.every=100000]
grid: {{placement: [pre, hybrid]}}
seeds: [0, 1]
baseline: {{placement: pre}}
"""
TUNED = """
question: do the stages of a tuned sweep follow each other there?
overrides: [scale=smoke, data=files, "data.paths=[{corpus}]", data.tokenizer.kind=bytes, wandb=disabled]
grid: {{placement: [pre, hybrid], optim.lr: [1e-3, 4e-3]}}
tune: optim.lr
tune_seeds: [0]
seeds: [1]
baseline: {{placement: pre}}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("slurmctld", "munged"))) or os.geteuid() != 0,
        reason="needs root and Debian's slurm-wlm and munge",
    ),
]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "slurm"
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    subprocess.run(["bash", str(SCRIPT), "start", str(folder), "2"], check=True, timeout=60)
    yield
    subprocess.run(["scancel", "--user", "root"], check=True, timeout=60)
    subprocess.run(["bash", str(SCRIPT), "stop", str(folder)], check=True, timeout=60)


def normlab(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "normlab", *words])


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def tables(name: str, runs: str) -> dict[str, bytes]:
    out = Path(f"results-{runs}")
    assert normlab("report", f"{name}.yaml", "--runs-dir", runs, "--results-dir", str(out)).wait() == 0
    return {table: (out / name / table).read_bytes() for table in TABLES}


def test_the_table_of_a_preempted_and_timed_out_array_job_is_the_local_one(
    slurm: None, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cluster.yaml").write_text(EXPERIMENT.format(corpus=corpus))
    assert normlab("sweep", "cluster.yaml", "runs_dir=here").wait() == 0

    # Two tasks of two cells, a minute each, which is not enough; the signal comes 10 to 40 seconds before its end.
    layout = ["launch=slurm", "launch.cells_per_task=2", "launch.minutes=1", "launch.grace=10"]
    sweep = normlab("sweep", "cluster.yaml", "runs_dir=there", *layout)
    there = Path("there/cluster")
    wait_for(lambda: any(path.stat().st_size > 5000 for path in there.glob("*/seed0/metrics.jsonl")), 120)
    task = next(iter((there / "slurm").glob("*_0_submitted.pkl"))).name.removesuffix("_submitted.pkl")
    subprocess.run(["scontrol", "requeue", task], check=True)
    assert sweep.wait(1200) == 0

    said = "".join(path.read_text() for path in there.glob("slurm/*_log.out"))
    assert "Caught signal SIGUSR2" in said and "timed-out" in said, "no task ran into its limit"
    cut = [path for path in there.glob("*/seed*/log.txt") if "interrupted after step" in path.read_text()]
    assert len(cut) >= 2, "one by the preemption, one by the limit"
    assert tables("cluster", "there") == tables("cluster", "here")
    assert normlab("status", "cluster.yaml", "--runs-dir", "there").wait() == 0


def test_both_halves_of_a_tuned_sweep_with_and_without_waiting(
    slurm: None, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tuned.yaml").write_text(TUNED.format(corpus=corpus))
    layout = ["launch=slurm", "launch.cells_per_task=2", "launch.minutes=5"]
    assert normlab("sweep", "tuned.yaml", "runs_dir=here").wait(600) == 0
    assert normlab("sweep", "tuned.yaml", "runs_dir=there", *layout).wait(600) == 0
    assert tables("tuned", "there") == tables("tuned", "here")

    apart = ["sweep", "tuned.yaml", "runs_dir=apart", *layout, "launch.wait=false"]
    for done, submitted in ((4, 1), (6, 2), (6, 2)):
        assert normlab(*apart).wait(600) == 0
        assert normlab(*apart).wait(600) == 0, "what is in the queue is not submitted again"
        wait_for(lambda done=done: len(list(Path("apart").glob("tuned/*/seed*/SHA256SUMS"))) == done, 300)
        wait_for(lambda: not subprocess.run(["squeue", "-h"], capture_output=True).stdout, 60)
        assert len(list(Path("apart").glob("tuned/slurm/*_submission.sh"))) == submitted
    assert tables("tuned", "apart") == tables("tuned", "here")
