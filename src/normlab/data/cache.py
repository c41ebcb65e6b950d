"""Where prepared data lies, how a request finds it, and who may write."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from normlab.config.schema import DataConfig
from normlab.data.sources import Source
from normlab.data.tokenizer import tokenizer_path
from normlab.errors import UserError

FORMAT = 1  # raised when the same text would give other tokens than before


def cache_folder(config: DataConfig) -> Path:
    """``data.cache_dir``, else ``data`` under $NORMLAB_CACHE or the user's cache folder; made where it is
    missing.
    """
    if config.cache_dir:
        folder = Path(config.cache_dir)
    elif "NORMLAB_CACHE" in os.environ:
        folder = Path(os.environ["NORMLAB_CACHE"]) / "data"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "normlab" / "data"
    folder = folder.expanduser().absolute()
    try:
        (folder / "requests").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fix = "set data.cache_dir or NORMLAB_CACHE to a folder that can be written"
        raise UserError(f"cannot make {folder}: {error.strerror}; {fix}") from None
    return folder


def request_key(config: DataConfig, source: Source) -> str:
    """What is asked for, without reading any text: the settings and the files' sizes and times."""
    settings = config.model_dump(mode="json", exclude={"name", "cache_dir", "workers"})
    tokenizer: list[str | int] = []
    if config.tokenizer.kind == "file":
        path = tokenizer_path(config.tokenizer)
        tokenizer = [str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns]
    return digest_of([FORMAT, settings, source.stamp, tokenizer])


def digest_of(plain: Any) -> str:
    """SHA-256 of plain data, shortened to 16 digits."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def locked(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold a lock file; where another process holds it, say so and wait. It opens by itself when that one
    dies.
    """
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that {waiting_for}", file=sys.stderr, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
