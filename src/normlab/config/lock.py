"""One process per run folder: a lock that the kernel drops when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from normlab.errors import UserError
from normlab.files import unwritable

EXIT_LOCKED = 75  # EX_TEMPFAIL of sysexits.h: what a process returns whose run is in somebody else's hands
_PATIENCE = 1.0  # seconds: `lock_holder` holds a free lock for an instant, which must not look like a run


class RunLocked(UserError):
    """Another live process is training this run."""

    exit_code = EXIT_LOCKED


@contextlib.contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir/.lock``. Raises RunLocked when another process has it."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = (run_dir / ".lock").open("a+")
    except OSError as error:
        raise unwritable(run_dir, error) from None
    with file:
        deadline = time.monotonic() + _PATIENCE
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise RunLocked(f"{run_dir} is being trained by process {_pid(run_dir)}; wait for it, or end it")
            time.sleep(0.05)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def lock_holder(run_dir: Path) -> int | None:
    """The process that is training in ``run_dir``, or None."""
    try:
        with (run_dir / ".lock").open("r+") as file:
            return None if _try_lock(file.fileno()) else _pid(run_dir)
    except OSError:  # no lock file: nobody ever trained here; not ours to write: nobody we could wait for
        return None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(run_dir: Path) -> int:
    """The holder's process id; 0 in the instant in which it has the lock and has not yet said who it is."""
    text = (run_dir / ".lock").read_text().strip()
    return int(text) if text.isdigit() else 0
