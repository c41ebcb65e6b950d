"""The same table as Markdown, LaTeX and CSV."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from normlab.report.render import latex_escape, to_csv, to_latex, to_markdown, to_terminal
from normlab.report.table import Cell, Column, Table

NASTY = r"my_norm*50% & #1 {x}^2~\$|<b>"


@pytest.fixture
def table() -> Table:
    columns = [
        Column("Method", ("method",), left=True),
        Column("Δ [95 % CI]", ("mean", "sd"), "A & B"),
        Column("hidden", ("hidden",), everywhere=False),
    ]
    rows = [
        [Cell(NASTY, (NASTY,)), Cell("-0.1000 ± 0.0200", (-0.1, 0.02), bold=True), Cell("1", (1,))],
        [Cell("[b]", ("[b]",)), Cell("–", (None, None), underline=True), Cell("x-1", ("x-1",))],
    ]
    return Table("main", f"Is {NASTY} better?", columns, rows, ["A note on ‖g‖, α and 3 × 4.", NASTY])


def test_markdown_is_an_aligned_pipe_table(table: Table) -> None:
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("| ")]
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert "**-0.1000 ± 0.0200**" in lines[2]
    assert r"my\_norm\*50% & #1 {x}^2~\\$\|\<b\>" in lines[2]


def test_latex_escapes_and_balances(table: Table) -> None:
    text = to_latex(table)
    assert r"my\_norm*50\% \& \#1 \{x\}\textasciicircum{}2\textasciitilde{}\textbackslash{}\$$|$$<$b$>$" in text
    assert r"\textbf{$-$0.1000 $\pm$ 0.0200}" in text
    assert r"\cmidrule(lr){2-2}" in text
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert text.replace(r"\$", "").count("$") % 2 == 0
    assert text.isascii()
    assert latex_escape("x-1 and -1") == "x-1 and $-$1"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles(table: Table, tmp_path: Path) -> None:
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(head + to_latex(table) + "\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_csv_has_plain_numbers(table: Table) -> None:
    lines = to_csv(table).splitlines()
    assert lines[0] == "method,mean,sd,hidden"
    assert lines[1].endswith(",-0.1,0.02,1")
    assert lines[2] == "[b],,,x-1"


def test_terminal_takes_no_markup_from_a_name(table: Table) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(to_terminal(table))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[b]" in printed and "hidden" not in printed
