"""What can be shared under more kinds of network, and that a signal or a death leaves nobody waiting; all slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from parallel_runs import KINDS, agree, rows, seed_folder, small, torchrun, train_by_two

import normlab
from normlab.config.identity import run_dir

pytestmark = pytest.mark.slow

CASES = {
    "experts": ["model.n_experts=4"],
    "unit rows": ["placement=ngpt", "optim.weight_decay=0"],
    "weight_norm": ["placement.weights=weight_norm"],
    "streams": ["placement=mhc"],
    "two streams": ["placement=siamese"],
    "expected gradient": ["observe.init_batches=2", "optim.grad_clip=null"],
    "compiled": ["train.compile=on"],
}
ONLY_DDP = {"profiled": ["placement=admin"], "spectral": ["placement.weights=spectral"]}


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    todo = []
    for case, words in {**CASES, **ONLY_DDP}.items():
        name = case.replace(" ", "_")
        normlab.train(normlab.compose(small(corpus, folder, name, *words)))
        kinds = KINDS if case in CASES else ("ddp",)
        todo += [small(corpus, folder, f"{name}_{kind}", *words, f"train.parallel={kind}") for kind in kinds]
    train_by_two(todo, folder)
    return folder


@pytest.mark.parametrize(
    ("case", "kind"), [(case, kind) for case in CASES for kind in KINDS] + [(case, "ddp") for case in ONLY_DDP]
)
def test_two_processes_see_the_numbers_of_one(runs, case, kind):
    name = case.replace(" ", "_")
    agree(seed_folder(runs, name), seed_folder(runs, f"{name}_{kind}"))


LONG = ["train.steps=5000", "train.batch_size=4", "observe.flush_every=1", "eval.every=5000", "eval.windows=2"]


def started(overrides: list[str], kind: str, at: int) -> tuple[subprocess.Popen[str], dict[int, int], Path]:
    """``torchrun -m normlab train``, its processes by rank, and its folder, once it has made ``at`` steps."""
    words = [*overrides, *LONG, f"train.parallel={kind}", "checkpoint.every=4"]
    metrics = run_dir(normlab.compose(words)) / "metrics.jsonl"
    launched = torchrun("-m", "normlab", "train", *words)
    deadline = time.monotonic() + 120
    while not (metrics.exists() and f'"step": {at},' in metrics.read_text()):
        assert time.monotonic() < deadline and launched.poll() is None, "it never came so far"
        time.sleep(0.05)
    return launched, dict(workers(launched.pid)), metrics.parent


def workers(parent: int) -> list[tuple[int, int]]:
    """(rank, process id) of the processes that ``torchrun`` started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    environments = [(int(child), Path(f"/proc/{child}/environ").read_bytes().split(b"\0")) for child in children]
    return [(int(word[5:]), child) for child, words in environments for word in words if word.startswith(b"RANK=")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_to_one_process_stops_all_behind_the_same_step(tiny, kind):
    launched, ranks, folder = started(tiny(), kind, at=6)
    os.kill(ranks[1], signal.SIGUSR1)
    launched.communicate(timeout=60)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["signal"]) == ("interrupted", signal.SIGUSR1)
    receipt = json.loads((folder / "checkpoints" / f"step_{summary['steps']:07d}.json").read_text())["content"]
    assert receipt["step"] == summary["steps"] == rows(folder)[-1]["step"] and len(receipt["parts"]) == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_nobody_waits_for_a_process_that_was_killed(tiny, rank):
    """torchrun ends the other one, which may by then have seen it by itself: whoever is first."""
    launched, ranks, folder = started(tiny(), "ddp", at=6)
    os.kill(ranks[rank], signal.SIGKILL)
    launched.communicate(timeout=60)
    assert launched.returncode != 0 and not any(Path(f"/proc/{process}").exists() for process in ranks.values())
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary.get("error")) in [
        ("running", None), ("failed", "another process of the run ended"),
    ]  # fmt: skip
    assert list((folder / "checkpoints").glob("step_*.json"))  # to go on from
