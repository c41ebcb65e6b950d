"""Files that are whole or absent, never half."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from pathlib import Path
from typing import Any

from normlab.errors import DiskError

_TORN = ".torn"  # ends the name of a file that is being written


def write_atomic(path: Path, payload: bytes | memoryview | str) -> None:
    """Write, fsync, rename, fsync of the folder. Raises DiskError where the disk is full or cannot be written."""
    data = memoryview(payload.encode() if isinstance(payload, str) else payload)
    # A name of its own, so that two writers never share a file; and not tempfile's, whose files only the owner reads.
    torn = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TORN}")
    try:
        with torn.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(torn, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            torn.unlink()
        raise unwritable(path, error) from None


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk: without it a power cut can undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_torn(folder: Path) -> None:
    """Delete what processes that were killed while writing left behind; for the one writer of ``folder`` only."""
    for torn in folder.glob(f".*{_TORN}"):
        with contextlib.suppress(OSError):
            torn.unlink()


def as_json(value: Any) -> str:
    """``value`` as indented JSON, keys in the order given; a number that JSON cannot hold is an error."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """``value`` as ``as_json`` writes it, atomically."""
    write_atomic(path, as_json(value))


def unwritable(path: Path, error: OSError) -> DiskError:
    """What a failed write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(f"the disk is full: cannot write {path}; free some space and start the same command again")
    return DiskError(f"cannot write {path}: {error.strerror or error}; check the folder's permissions")
