"""Which checkpoints are kept, and what is swept up of those that do not count."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import normlab
from normlab.config.identity import run_dir
from normlab.training.loop import TrainingLoop


def steps(folder: Path) -> list[int]:
    return sorted(int(receipt.stem.removeprefix("step_")) for receipt in (folder / "checkpoints").glob("step_*.json"))


def test_a_run_that_begins_anew_keeps_what_it_saves_and_not_what_it_could_not_read(
    tiny: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that are damaged early spoil every checkpoint. The next run, stopped halfway, must not lose its own."""
    config = normlab.compose(tiny("checkpoint.every=5"))
    whole = normlab.train(config)
    folder = run_dir(config)
    assert steps(folder) == [15, 20]
    metrics = folder / "metrics.jsonl"
    as_it_was = metrics.read_bytes()
    metrics.write_bytes(as_it_was.replace(b"4", b"5", 1))

    calls, agreed = itertools.count(1), normlab.training.parallel.Parallel.agreed
    monkeypatch.setattr(
        "normlab.training.parallel.Parallel.agreed",
        lambda self, signal: 15 if next(calls) == 7 else agreed(self, signal),
    )
    stopped = normlab.train(config)
    assert (stopped["status"], stopped["steps"]) == ("interrupted", 7)
    assert steps(folder) == [5, 7]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir() if path.is_dir()) == [
        "step_0000005", "step_0000007",
    ]  # fmt: skip

    began: list[int] = []
    begin = TrainingLoop.begin
    monkeypatch.setattr(TrainingLoop, "begin", lambda self, *args: (began.append(self.start), begin(self, *args)))
    assert normlab.train(config)["final"] == whole["final"]
    assert began == [7] and steps(folder) == [15, 20] and metrics.read_bytes() == as_it_was


def test_a_folder_that_a_kill_left_without_its_receipt_is_swept_up(tiny: Callable[..., list[str]]) -> None:
    config = normlab.compose(tiny())
    left = run_dir(config) / "checkpoints" / "step_0000003"
    left.mkdir(parents=True)
    (left / "part.safetensors").write_bytes(b"whole, but of no step that counts")
    normlab.train(config)
    assert not left.exists()


def test_a_run_mended_behind_its_last_step_still_knows_its_rate(tiny: Callable[..., list[str]]) -> None:
    config = normlab.compose(tiny("train.steps=30", "observe.flush_every=5"))
    whole = normlab.train(config)
    assert whole["tokens_per_s"] > 0
    summary = run_dir(config) / "summary.json"
    summary.write_text(json.dumps({**whole, "status": "running"}))
    mended = normlab.train(config)
    assert mended["tokens_per_s"] > 0 and mended["seconds"] == pytest.approx(whole["seconds"])
