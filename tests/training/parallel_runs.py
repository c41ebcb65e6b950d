"""Runs on several processes for the tests: how they are started and compared, and what ``torchrun`` starts.

As a program: the runs of a file, one after another, each by all processes together. A run may end in a UserError,
which the next one must not feel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import normlab
from normlab.errors import UserError

# A batch of 8 in micro batches of 2, so that two processes accumulate over two; 7 windows, which two processes cannot
# share evenly.
SMALL = [
    "train.steps=6", "train.batch_size=8", "train.micro_batch_size=2", "train.seq_len=32", "eval.every=3",
    "eval.windows=7", "observe.probe_every=3", "observe.probe_at=[1]", "observe.flush_every=2", "checkpoint.every=3",
    "optim.warmup_steps=1",
]  # fmt: skip
KINDS = ("ddp", "fsdp")


def small(corpus: Path, runs: Path, experiment: str, *more: str) -> list[str]:
    """Overrides of a run of a second."""
    return [
        "scale=smoke", "data=files", f"data.paths=[{corpus}]", "data.tokenizer.kind=bytes", "wandb=disabled",
        f"runs_dir={runs}", "train.precision=fp32", "train.compile=off", "train.threads=1", *SMALL, *more,
        f"experiment={experiment}",
    ]  # fmt: skip


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    """Two processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def train_by_two(runs: list[list[str]], folder: Path) -> str:
    """Train them all under one ``torchrun``; returns what was said on the standard error."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps(runs))
    process = torchrun(__file__, str(plan))
    _, said = process.communicate(timeout=500)
    assert process.returncode == 0, said
    return said


def seed_folder(runs: Path, experiment: str) -> Path:
    (folder,) = (runs / experiment).glob("*/seed0")
    return folder


def rows(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def agree(one: Path, two: Path) -> None:
    """Losses, gradient norms whole, by block and by kind, clipping, validation, and every look inside the layers."""
    for name in ("metrics.jsonl", "probes.jsonl"):
        expected, found = rows(one, name), rows(two, name)
        assert [list(row) for row in found] == [list(row) for row in expected]
        for a, b in zip(expected, found, strict=True):
            for key in a:
                message = f"{name}, {key} at step {a['step']}: {b[key]} for {a[key]}"
                numbers = (torch.tensor(flat(row[key])) for row in (b, a))
                torch.testing.assert_close(*numbers, rtol=2e-3, atol=2e-4, equal_nan=True, msg=message)
    losses = (torch.tensor([row["loss"] for row in rows(folder) if "loss" in row]) for folder in (two, one))
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)


def flat(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in flat(value[key])]
    if isinstance(value, list):
        return [number for entry in value for number in flat(entry)]
    return [float("nan") if value is None else float(value)]


def main() -> None:
    for overrides in json.loads(Path(sys.argv[1]).read_text()):
        try:
            normlab.train(normlab.compose(overrides))
        except UserError as error:
            print(f"UserError: {error}", file=sys.stderr, flush=True)
        except SystemExit:  # of a process that the main one told of its UserError
            pass


if __name__ == "__main__":
    main()
