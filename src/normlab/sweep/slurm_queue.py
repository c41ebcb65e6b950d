"""Slurm's queue, and what was put into it: which of its tasks has which runs.

Asked by squeue and not by sacct, which needs a data base that not every cluster has.
"""

from __future__ import annotations

import getpass
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from normlab.errors import UserError
from normlab.files import unwritable

FOLDER = "slurm"  # in an experiment's folder: what was submitted, and the logs of the tasks
RECORD = "submitted.jsonl"
_PATIENCE = 60.0  # seconds for an answer of Slurm's


def note(run_dir: Path, task: str) -> None:
    """Write down which task a run was given to, so that another sweep does not submit it again."""
    path = run_dir.parents[1] / FOLDER / RECORD
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps({"run": _name(run_dir), "task": task}) + "\n")
    except OSError as error:
        raise unwritable(path, error) from None


def tasks_of(experiment: Path) -> dict[Path, str]:
    """The task to which each run of the experiment's folder was given last; it may be long gone."""
    try:
        lines = (experiment / FOLDER / RECORD).read_text().splitlines()
    except OSError:
        return {}
    found: dict[Path, str] = {}
    for line in lines:
        try:
            record = json.loads(line)
            found[experiment / record["run"]] = str(record["task"])
        except (ValueError, KeyError, TypeError):  # half a line, of a full disk
            continue
    return found


def states() -> dict[str, str] | None:
    """The state (PENDING, RUNNING, ...) of each of the user's tasks in the queue; None where nobody answers."""
    command = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i %T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    pairs = (line.split() for line in answer.stdout.splitlines())
    return {words[0]: words[1] for words in pairs if len(words) == 2}


def cancel(tasks: Iterable[str]) -> None:
    """Every process of the tasks hears SIGTERM: their cells save. Raises UserError where that was not taken."""
    try:
        subprocess.run(["scancel", *tasks], capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"the tasks are still in Slurm's queue: scancel {' '.join(tasks)} failed ({error})") from None


def _name(run_dir: Path) -> str:
    return f"{run_dir.parent.name}/{run_dir.name}"
