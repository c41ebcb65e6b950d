"""Errors that a user can mend: one line, the nearest valid name, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_DISK = 74  # EX_IOERR of sysexits.h


class UserError(Exception):
    """A mistake in what the user asked for. The command line prints it on one line and exits with ``exit_code``."""

    exit_code = 2


class DiskError(UserError):
    """A disk that is full or a folder that cannot be written.

    Its line may be nowhere to be read, as the log is on the same disk: the exit code says it once more.
    """

    exit_code = EXIT_DISK


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'hybrid'?`` followed by the valid names, for the end of an error line."""
    names = sorted({str(k) for k in known})
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return f"{hint}(known: {shown})" if names else "(nothing is known here)"
