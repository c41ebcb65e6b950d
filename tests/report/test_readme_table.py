"""The table on the README's first screen is the one that the repository's own command made."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def rows(text: str, columns: int) -> list[list[str]]:
    """The first cells of the Markdown rows that have at least so many."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return [row[:columns] for row in cells if len(row) >= columns and not row[0].startswith("-")]


def test_readme_shows_what_results_hold() -> None:
    shown = rows((ROOT / "README.md").read_text(), 7)
    assert len(shown) == 5
    assert shown == rows((ROOT / "results/quickstart/table.md").read_text(), 7)
