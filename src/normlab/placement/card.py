"""The header comment of a placement's YAML file, read as data.

# Title, Author et al. YEAR (arXiv ID): one-line description
# equation; or several
# Notes and pitfalls, sentence by sentence.
# Not verified: what nobody has checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from normlab.errors import UserError

_UNVERIFIED = "Not verified:"
_EXAMPLE = "# Pre-Norm, Xiong et al. 2020 (arXiv 2002.04745): a norm before each sublayer"


@dataclass(frozen=True)
class Card:
    """What a placement file says about itself in words."""

    title: str
    source: str
    summary: str
    equation_lines: tuple[str, ...]
    notes: tuple[str, ...]
    not_verified: tuple[str, ...]

    @property
    def equation(self) -> str:
        return " ".join(self.equation_lines)


def read_card(path: Path) -> Card:
    """The card of the file at ``path``. Raises UserError, naming the file, where the title or the equation is missing.

    A comment line that does not end a sentence goes on in the next line. A line that begins with white space after
    the ``#`` continues the equation.
    """
    lines = _header(path.read_text(encoding="utf-8"))
    if not lines or not lines[0].strip():
        raise UserError(f"{path}: no header; its first line says what it is, for example '{_EXAMPLE}'")
    equation = [lines[1].strip()] if len(lines) > 1 else []
    if not equation or "=" not in equation[0]:
        raise UserError(f"{path}: no equation; its second line says it, for example '# Y = X + MHA(Norm(X))'")
    rest = lines[2:]
    while rest and (rest[0].startswith("  ") or equation[-1].endswith((";", ","))):
        equation.append(rest.pop(0).strip())
    title, source, summary = _title_line(lines[0].strip(), path)
    notes, unverified = [], []
    for note in _sentences(rest):
        said, mark, doubt = note.partition(_UNVERIFIED)
        notes += [said.strip()] if said.strip() else []
        unverified += [doubt.strip()] if mark else []
    return Card(
        title,
        source,
        summary,
        equation_lines=tuple(equation),
        notes=tuple(notes),
        not_verified=tuple(unverified),
    )


def _header(text: str) -> list[str]:
    """The comment lines at the top, without ``# ``."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):  # a word to Hydra
            lines.append(line[1:].removeprefix(" "))
    return lines


def _title_line(line: str, path: Path) -> tuple[str, str, str]:
    """``Title, source: summary`` or ``Title (source): summary``; colons and commas within brackets do not count."""
    colon = _outside_brackets(line, ": ")
    head, summary = (line[:colon], line[colon + 2 :]) if colon is not None else (line, "")
    cut = _outside_brackets(head, ", ")
    title = head[: _outside_brackets(head, " (") if cut is None else cut]
    source = head[len(title) :].strip(", ")
    if source.startswith("(") and source.endswith(")") and ")" not in source[:-1]:
        source = source[1:-1]
    if not title.strip():
        raise UserError(f"{path}: no title; its first line says it, for example '{_EXAMPLE}'")
    return title.strip(), source, summary.strip()


def _outside_brackets(text: str, mark: str) -> int | None:
    """Where ``mark`` first stands at bracket depth 0."""
    depth = 0
    for at, char in enumerate(text):
        if depth == 0 and text.startswith(mark, at):
            return at
        depth += (char == "(") - (char == ")")
    return None


def _sentences(lines: list[str]) -> list[str]:
    """Comment lines joined where one does not end a sentence; ``Not verified:`` always begins anew."""
    notes: list[str] = []
    for line in (line.strip() for line in lines):
        starts = not notes or notes[-1].endswith((".", "!", "?", ".)")) or line.startswith(_UNVERIFIED)
        if line and starts:
            notes.append(line)
        elif line:
            notes[-1] += " " + line
    return notes
