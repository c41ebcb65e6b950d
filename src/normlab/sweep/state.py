"""What a run folder says about its run. Only the disk is asked, so it holds for the dead as well."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from normlab.config.lock import lock_holder
from normlab.results import FINISHED, read_config, read_summary
from normlab.seal import broken_seal

_TAIL = 8192  # bytes: dozens of lines of metrics.jsonl, whatever its length
_SIGN_OF_LIFE = 600.0  # seconds since a run on another machine last wrote something


@dataclass(frozen=True)
class RunState:
    """``status``: missing, running, done, diverged, damaged, interrupted or failed. Unknown numbers are None."""

    status: str
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    val_loss: float | None = None
    spikes: int | None = None
    error: str | None = None
    holder: str | None = None  # host:pid of who has its lock


def read_state(run_dir: Path, treatment_hash: str | None = None) -> RunState:
    """The state of the run in ``run_dir``. A ``running`` whose process is gone reads as ``interrupted``.

    On another machine it counts as running for as long as it writes, whether or not its lock is seen here: not every
    file system passes locks on. A summary of another treatment than ``treatment_hash`` counts as no summary.
    """
    summary = read_summary(run_dir)
    if treatment_hash and summary.get("treatment_hash", treatment_hash) != treatment_hash:
        return RunState("missing")
    step, loss, val_loss = last_metrics(run_dir)
    holder = lock_holder(run_dir)
    status, error = str(summary.get("status", "missing")), summary.get("error")
    if holder is not None:
        status = "running"
    elif status in FINISHED and (damaged := broken_seal(run_dir)):
        status, error = "damaged", f"{damaged} is damaged; the next sweep mends it"
    elif status == "running" or (status == "missing" and step):
        status = "running" if _writes_elsewhere(run_dir) else "interrupted"
    final, spikes = summary.get("final") or {}, summary.get("spikes") or {}
    return RunState(
        status=status,
        step=step or summary.get("steps") or 0,
        steps=_planned_steps(run_dir),
        loss=loss if loss is not None else final.get("train_loss"),
        val_loss=final.get("val_loss") if final.get("val_loss") is not None else val_loss,
        spikes=(spikes.get("loss") or {}).get("events"),
        error=error,
        holder=holder,
    )


def _writes_elsewhere(run_dir: Path) -> bool:
    """Whether its last process was on another machine, and wrote not long ago."""
    try:
        host = (run_dir / ".lock").read_text().partition(":")[0].strip()
        wrote = max(path.stat().st_mtime for path in run_dir.iterdir())
    except (OSError, ValueError):
        return False
    return host not in ("", socket.gethostname()) and time.time() - wrote < _SIGN_OF_LIFE


def result_of(run_dir: Path) -> dict[str, Any]:
    """The summary of a run that is finished and as it was left; empty for any other."""
    summary = read_summary(run_dir)
    return summary if summary.get("status") in FINISHED and not broken_seal(run_dir) else {}


def last_metrics(run_dir: Path) -> tuple[int, float | None, float | None]:
    """The last step, its loss and the last validation loss in ``metrics.jsonl``, from the file's end only."""
    step, loss, val_loss = 0, None, None
    for line in _tail(run_dir / "metrics.jsonl").splitlines():
        try:
            record = json.loads(line)
            step = max(step, int(record.get("step", 0)))
        except (ValueError, TypeError, AttributeError):  # the tail's first line, one being written, a damaged one
            continue
        loss, val_loss = record.get("loss", loss), record.get("val_loss", val_loss)
    return step, loss, val_loss


def checkpoint_step(run_dir: Path) -> int:
    """The step of the newest checkpoint, from which the run would go on; 0 where there is none."""
    receipts = [path.stem.removeprefix("step_") for path in (run_dir / "checkpoints").glob("step_*.json")]
    return max((int(step) for step in receipts if step.isdigit()), default=0)


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
        return int(read_config(run_dir)["train"]["steps"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return None
