"""What a run folder says about its run. Only the disk is asked, so it holds for the dead as well."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from normlab.config.lock import lock_holder
from normlab.results import read_summary

_TAIL = 8192  # bytes: dozens of lines of metrics.jsonl, whatever its length


@dataclass(frozen=True)
class RunState:
    """``status``: missing, running, done, diverged, interrupted or failed. Unknown numbers are None."""

    status: str
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    val_loss: float | None = None
    spikes: int | None = None
    error: str | None = None
    pid: int | None = None


def read_state(run_dir: Path, treatment_hash: str | None = None) -> RunState:
    """The state of the run in ``run_dir``. A ``running`` whose process is gone reads as ``interrupted``.

    A summary of another treatment than ``treatment_hash`` counts as no summary.
    """
    summary = read_summary(run_dir)
    if treatment_hash and summary.get("treatment_hash", treatment_hash) != treatment_hash:
        return RunState("missing")
    step, loss, val_loss = last_metrics(run_dir)
    pid = lock_holder(run_dir)
    status = str(summary.get("status", "missing"))
    if pid is not None:
        status = "running"
    elif status == "running" or (status == "missing" and step):
        status = "interrupted"
    final, spikes = summary.get("final") or {}, summary.get("spikes") or {}
    return RunState(
        status=status,
        step=step or summary.get("steps") or 0,
        steps=_planned_steps(run_dir),
        loss=loss if loss is not None else final.get("train_loss"),
        val_loss=final.get("val_loss") if final.get("val_loss") is not None else val_loss,
        spikes=(spikes.get("loss") or {}).get("events"),
        error=summary.get("error"),
        pid=pid,
    )


def last_metrics(run_dir: Path) -> tuple[int, float | None, float | None]:
    """The last step, its loss and the last validation loss in ``metrics.jsonl``, from the file's end only."""
    step, loss, val_loss = 0, None, None
    for line in _tail(run_dir / "metrics.jsonl").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the first line of the tail, or one that is being written
            continue
        step = max(step, int(record.get("step", 0)))
        loss, val_loss = record.get("loss", loss), record.get("val_loss", val_loss)
    return step, loss, val_loss


def last_line(path: Path, start: int = 0) -> str:
    """The last line of a log that holds a word, from byte ``start`` on."""
    lines = [line.strip() for line in _tail(path, start).splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _tail(path: Path, start: int = 0) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _planned_steps(run_dir: Path) -> int | None:
    try:
        return int(yaml.safe_load((run_dir / "config.yaml").read_text())["train"]["steps"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return None
