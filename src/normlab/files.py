"""Files that are whole or absent, never half."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from normlab.errors import UserError


def write_atomic(path: Path, payload: bytes | memoryview | str) -> None:
    """Write, fsync, rename. Raises UserError for a full disk or a folder that cannot be written."""
    data = payload.encode() if isinstance(payload, str) else payload
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise unwritable(path, error) from None


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, keys in the order given; a number that JSON cannot hold is an error."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def unwritable(path: Path, error: OSError) -> UserError:
    """What a failed write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"the disk is full: cannot write {path}; free some space and start the same command again")
    return UserError(f"cannot write {path}: {error.strerror or error}; check the folder's permissions")
