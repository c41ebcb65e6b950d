"""One process per run folder, on one machine and on several."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from normlab.config import lock
from normlab.config.lock import EXIT_LOCKED, RunLocked, lock_holder, run_lock
from normlab.errors import EXIT_DISK, DiskError

_HOLD = """
import sys, pathlib
from normlab.config.lock import run_lock
with run_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_holder_says_on_which_machine_it_is(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    with run_lock(tmp_path):
        assert lock_holder(tmp_path) == f"{socket.gethostname()}:{os.getpid()}"
    assert lock_holder(tmp_path) is None


def test_of_two_who_look_at_once_none_is_a_run_to_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_lock(tmp_path):
        pass
    seen: list[str | None] = []
    try_lock = lock._try_lock

    def look_again(*args: Any) -> bool:
        monkeypatch.setattr(lock, "_try_lock", try_lock)
        got = try_lock(*args)
        seen.append(lock_holder(tmp_path))
        return got

    monkeypatch.setattr(lock, "_try_lock", look_again)
    assert lock_holder(tmp_path) is None and seen == [None]


def test_a_lock_goes_with_its_holder_however_it_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RunLocked, match=f"by process {socket.gethostname()}:{holder.pid}") as refused,
            run_lock(tmp_path),
        ):
            pass
        assert refused.value.exit_code == EXIT_LOCKED
    finally:
        holder.kill()
        holder.communicate()
    with run_lock(tmp_path):
        assert lock_holder(tmp_path) == f"{socket.gethostname()}:{os.getpid()}"


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lustre without ``-o flock`` answers ENOSYS; a run that thinks itself alone there would be a corrupt one."""

    def no_locks(*args: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(DiskError, match=r"has no locks .*runs_dir") as raised, run_lock(tmp_path):
        pass
    assert raised.value.exit_code == EXIT_DISK


def test_a_disk_that_takes_no_byte_is_one_line(tmp_path: Path) -> None:
    """Here by a limit on the size of files; the lock's file can be made, and its holder's name not be written."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(DiskError, match=r"cannot write .*\.lock"), run_lock(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    with run_lock(tmp_path):
        pass
