"""The table on the README's first screen is the one that the repository's own command made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = "results/quickstart/table.md"


def rows(text: str, columns: int) -> list[list[str]]:
    """The first cells of the Markdown rows that have at least so many."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return [row[:columns] for row in cells if len(row) >= columns and not row[0].startswith("-")]


def as_committed(file: str) -> bool:
    """Whether a checkout's file is the one of its commit; False also where there is no checkout or no git."""
    if not (ROOT / ".git").exists():
        return False
    try:
        command = ["git", "-C", str(ROOT), "diff", "--quiet", "HEAD", "--", file]
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def test_readme_shows_what_results_hold() -> None:
    shown = rows((ROOT / "README.md").read_text(), 7)
    assert len(shown) == 5
    if not as_committed(TABLE):
        pytest.skip("`make quickstart` wrote this machine's numbers, or this is no checkout")
    assert shown == rows((ROOT / TABLE).read_text(), 7)
