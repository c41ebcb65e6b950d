"""What a finished run wrote, under checksums: a flipped bit or a cut file is found before it is a number in a table.

``SHA256SUMS`` is that of coreutils: ``sha256sum -c SHA256SUMS`` in a run folder checks it without this package.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from normlab.files import unwritable, write_atomic

SUMS = "SHA256SUMS"
_SEALED = ("config.yaml", "env.json", "metrics.jsonl", "probes.jsonl")
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[\w.-]+)")


def seal(run_dir: Path, summary: str) -> None:
    """Sum up the run's files and the summary that is about to be written.

    To be called before summary.json says that the run is finished: then no finished run is without its sums, whenever
    the process is killed. Raises DiskError.
    """
    digests = {name: _settled_digest(run_dir / name) for name in _SEALED if (run_dir / name).exists()}
    digests["summary.json"] = hashlib.sha256(summary.encode()).hexdigest()
    write_atomic(run_dir / SUMS, "".join(f"{digest}  {name}\n" for name, digest in digests.items()))


def broken_seal(run_dir: Path) -> str | None:
    """The first file of a finished run that is not as the run left it; None where all are, or nothing was sealed."""
    try:
        # Split as bytes: text has more ends of a line than a flipped bit may make.
        lines = [line.decode(errors="replace") for line in (run_dir / SUMS).read_bytes().splitlines()]
    except OSError:
        return None
    for line in lines:
        sealed = _LINE.fullmatch(line)
        if sealed is None:
            return SUMS
        try:
            if _digest(run_dir / sealed["name"]) != sealed["digest"]:
                return sealed["name"]
        except OSError:
            return sealed["name"]
    return None


def _settled_digest(path: Path) -> str:
    """The SHA-256 of a file that is, from here on, on the disk."""
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unwritable(path, error) from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
