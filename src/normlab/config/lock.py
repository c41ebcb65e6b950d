"""One process per run folder: a lock that the kernel drops when its holder dies, however it dies.

On a shared file system too: Linux passes flock on to NFS since 2.6.12 (nfs(5), "local_lock"), Lustre has it with the
mount option "flock". A process id means nothing on another machine, so a holder is ``host:pid``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from normlab.errors import DiskError, UserError
from normlab.files import unwritable

EXIT_LOCKED = 75  # EX_TEMPFAIL of sysexits.h: what a process returns whose run is in somebody else's hands
_PATIENCE = 1.0  # seconds: `lock_holder` shares a free lock for an instant, which must not look like a run
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_UNKNOWN = "unknown"  # the holder, in the instant in which it has the lock and has not yet said who it is


class RunLocked(UserError):
    """Another live process is training this run."""

    exit_code = EXIT_LOCKED


@contextlib.contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Hold ``run_dir/.lock``. Raises RunLocked when another process has it, DiskError where there are no locks."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = (run_dir / ".lock").open("ab+", buffering=0)  # nothing is left to be written at its end
    except OSError as error:
        raise unwritable(run_dir, error) from None
    with file:
        deadline = time.monotonic() + _PATIENCE
        while not _try_lock(file.fileno(), fcntl.LOCK_EX, run_dir):
            if time.monotonic() > deadline:
                raise RunLocked(f"{run_dir} is being trained by process {_said(run_dir)}; wait for it, or end it")
            time.sleep(0.05)
        try:
            file.truncate(0)
            file.write(f"{socket.gethostname()}:{os.getpid()}\n".encode())
        except OSError as error:
            raise unwritable(run_dir / ".lock", error) from None
        yield


def lock_holder(run_dir: Path) -> str | None:
    """Who is training in ``run_dir``, as ``host:pid``, or None."""
    try:
        with (run_dir / ".lock").open("r+") as file:
            # Shared: of two who look at once, none is a run to the other.
            return None if _try_lock(file.fileno(), fcntl.LOCK_SH, run_dir) else _said(run_dir)
    except OSError:  # no lock file: nobody ever trained here; not ours to write: nobody we could wait for
        return None


def _try_lock(descriptor: int, kind: int, run_dir: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        remedy = "mount it with flock, or set runs_dir to a folder on another one"
        raise DiskError(f"the file system of {run_dir} has no locks ({error.strerror}); {remedy}") from None
    return True


def _said(run_dir: Path) -> str:
    return (run_dir / ".lock").read_text().strip() or _UNKNOWN
