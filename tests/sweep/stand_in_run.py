"""Stands in for `normlab train`: same folder, same lock, same exit codes, no training.

stand_in_run.py RUN_DIR HOW STEPS     one run, in this process
stand_in_run.py                       run after run, as the pool sends them
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from normlab.config.lock import EXIT_LOCKED, RunLocked, run_lock
from normlab.errors import EXIT_DISK
from normlab.sweep.serve import serve


def main(run_dir: Path, how: str, steps: int) -> int:
    if how == "overtaken" and not (run_dir / "starts").exists():
        (run_dir / "starts").write_text("x")  # somebody had the lock for a moment
        return EXIT_LOCKED
    try:
        with run_lock(run_dir):
            return run(run_dir, how, steps)
    except RunLocked as error:
        print(f"normlab: {error}", file=sys.stderr)
        return error.exit_code


def run(run_dir: Path, how: str, steps: int) -> int:
    with (run_dir / "starts").open("a") as file:
        file.write("x")
    (run_dir / "process").write_text(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}")
    if how == "talks":
        talk()
    metrics = run_dir / "metrics.jsonl"
    begin = len(metrics.read_text().splitlines()) if metrics.exists() else 0

    def leave(signum: int, frame: FrameType | None) -> None:
        if how == "saves":
            time.sleep(0.5)
        if how == "at_end":  # too late to be cut
            return
        if how != "stubborn":
            if how != "unsaved":
                receipt(run_dir)
            say(run_dir, "interrupted", signal=signum)
            sys.exit(128 + signum)

    signal.signal(signal.SIGTERM, leave)
    say(run_dir, "running")
    for step in range(begin + 1, steps + 1):
        if how == "fails" and step == 2:
            say(run_dir, "failed", error="ValueError: the reason")
            print("Traceback ...\nValueError: the reason", file=sys.stderr)
            return 1
        if how == "mistake":
            print("normlab: the remedy", file=sys.stderr)
            return 2
        if how == "read_only":
            print("normlab: cannot write it: Read-only file system", file=sys.stderr)
            return EXIT_DISK
        if how == "killed":
            signal.raise_signal(signal.SIGKILL)
        with metrics.open("a") as file:
            file.write(json.dumps({"step": step, "loss": 5.0 - 0.1 * step}) + "\n")
        time.sleep(0.2 if how in ("slow", "stubborn", "unsaved", "saves") else 0.02)
    if how == "at_end":
        time.sleep(1.0)
    say(run_dir, "diverged" if how == "diverges" else "done", spikes={"loss": {"events": 2}})
    return 0


def receipt(run_dir: Path) -> None:
    """As a checkpoint after all steps that are logged leaves it."""
    step = len((run_dir / "metrics.jsonl").read_text().splitlines())
    (run_dir / "checkpoints").mkdir(exist_ok=True)
    (run_dir / "checkpoints" / f"step_{step:07d}.json").write_text("{}")


def talk() -> None:
    """On every way on which a run can say something."""
    print("python stdout")
    print("python stderr", file=sys.stderr)
    os.write(1, b"descriptor 1\n")
    os.write(2, b"descriptor 2\n")
    ctypes.CDLL(None).printf(b"C stdout\n")  # which C would keep in a buffer of its own
    subprocess.run(["/bin/sh", "-c", "echo a child"], check=True)
    warnings.warn("a warning", stacklevel=1)
    assert sys.stdin.read() == "", "nobody answers"


def say(run_dir: Path, status: str, **more: object) -> None:
    (run_dir / "summary.json").write_text(json.dumps({"status": status, "final": {"val_loss": 4.5}} | more))


def by_words(words: Sequence[str]) -> int:
    return main(Path(words[0]), words[1], int(words[2]))


if __name__ == "__main__":
    sys.exit(serve(by_words) if len(sys.argv) == 1 else by_words(sys.argv[1:]))
