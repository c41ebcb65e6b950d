"""Stands in for `normlab train`: same folder, same lock, same exit codes, no training.

stand_in_run.py RUN_DIR HOW STEPS
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from normlab.config.lock import EXIT_LOCKED, RunLocked, run_lock


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
    metrics = run_dir / "metrics.jsonl"
    begin = len(metrics.read_text().splitlines()) if metrics.exists() else 0

    def leave(signum: int, frame: FrameType | None) -> None:
        if how != "stubborn":
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
        if how == "killed":
            signal.raise_signal(signal.SIGKILL)
        with metrics.open("a") as file:
            file.write(json.dumps({"step": step, "loss": 5.0 - 0.1 * step}) + "\n")
        time.sleep(0.02 if how in ("ok", "diverges") else 0.2)
    say(run_dir, "diverged" if how == "diverges" else "done", spikes={"loss": {"events": 2}})
    return 0


def say(run_dir: Path, status: str, **more: object) -> None:
    (run_dir / "summary.json").write_text(json.dumps({"status": status, "final": {"val_loss": 4.5}} | more))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
