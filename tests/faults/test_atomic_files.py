"""A file is whole or as it was before, whatever fails on the way; and only after it is on the disk has it its name."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from normlab import files
from normlab.errors import EXIT_DISK, DiskError
from normlab.files import remove_torn, write_atomic, write_json


def test_content_then_name_then_folder_reach_the_disk_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flush(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if target.is_file():
            assert target.read_bytes() == b"content", "all of it is there when it is flushed"
        order.append("folder" if target.is_dir() else "content")
        fsync(descriptor)

    def rename(old: Path, new: Path) -> None:
        order.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    write_atomic(tmp_path / "file", b"content")
    assert order == ["content", "name", "folder"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, failing: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"old": 1})

    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, failing, fail)
    full = number in (errno.ENOSPC, errno.EDQUOT)
    with pytest.raises(DiskError, match=r"the disk is full.*free some space" if full else "check the folder") as raised:
        write_json(path, {"new": 2})
    assert str(path) in str(raised.value) and raised.value.exit_code == EXIT_DISK
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_user_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_writer_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".summary.json.0123abcd.torn").write_text("{")
    (tmp_path / ".lock").touch()
    (tmp_path / "summary.json").write_text("{}")
    remove_torn(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "summary.json"]


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"cannot write .*No such file or directory"):
        write_atomic(tmp_path / "nowhere" / "file", "text")
