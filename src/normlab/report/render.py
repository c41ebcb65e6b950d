"""A table as Markdown, LaTeX (booktabs), CSV, or for a terminal. Nothing here computes a number."""

from __future__ import annotations

import csv
import io
import re
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.table import Table as TerminalTable
from rich.text import Text

from normlab.report.table import Cell, Column, Table


def to_markdown(table: Table) -> str:
    """A GitHub pipe table, aligned to be read as it is, and its notes as a list."""
    heads = [_markdown_escape(" ".join(filter(None, (column.group, column.header)))) for column in table.columns]
    body = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    widths = [max(len(text) for text in texts) for texts in zip(heads, *body, strict=True)]
    rule = [
        "-" * width if column.left else "-" * (width - 1) + ":"
        for width, column in zip(widths, table.columns, strict=True)
    ]
    lines = ["| " + " | ".join(_pad(row, widths, table.columns)) + " |" for row in (heads, rule, *body)]
    notes = [f"- {_markdown_escape(note)}" for note in table.notes]
    return "\n".join([_markdown_escape(table.caption), "", *lines, "", *notes]) + "\n"


def to_latex(table: Table) -> str:
    """A floating ``table`` that needs the packages booktabs and graphicx."""
    spec = "".join("l" if column.left else "r" for column in table.columns)
    groups = [(name, len(list(run))) for name, run in groupby(column.group for column in table.columns)]
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        "\\begin{table}[t]",
        "\\centering\\small\\setlength{\\tabcolsep}{4pt}",
        f"\\caption{{{latex_escape(table.caption)}}}",
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",  # only if too wide
        f"\\begin{{tabular}}{{{spec}}}",
        "\\toprule",
    ]
    if any(name for name, _ in groups):
        spans, rules, at = [], [], 1
        for name, width in groups:
            spans.append(f"\\multicolumn{{{width}}}{{c}}{{{latex_escape(name)}}}")
            if name:
                rules.append(f"\\cmidrule(lr){{{at}-{at + width - 1}}}")
            at += width
        lines += [" & ".join(spans) + r" \\", " ".join(rules)]
    lines.append(" & ".join(latex_escape(column.header) for column in table.columns) + r" \\")
    lines.append("\\midrule")
    lines += [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in table.rows]
    lines += [
        "\\bottomrule",
        "\\end{tabular}}",
        "\\par\\smallskip",
        "\\begin{minipage}{\\linewidth}\\footnotesize",
    ]
    lines += [latex_escape(note) + r"\par" for note in table.notes]
    return "\n".join([*lines, "\\end{minipage}", "\\end{table}"]) + "\n"


def to_csv(table: Table) -> str:
    """Plain numbers at full precision, one line per row; nothing where there is no number."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([field for column in table.columns for field in column.fields])
    for row in table.rows:
        writer.writerow([_csv_value(value) for cell in row for value in cell.values])
    return file.getvalue()


def to_terminal(table: Table) -> TerminalTable:
    """The columns that fit a terminal, for ``rich.console.Console.print``."""
    shown = [index for index, column in enumerate(table.columns) if column.everywhere]
    terminal = TerminalTable(title=table.caption, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for index in shown:
        column = table.columns[index]
        head = " ".join(filter(None, (column.group, column.header)))
        terminal.add_column(Text(head), justify="left" if column.left else "right")
    for row in table.rows:
        terminal.add_row(*(Text(row[index].text, style=_style(row[index])) for index in shown))
    return terminal


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$",
    "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$", '"': "''",
    "[": "{[}", "]": "{]}",  # after \\ a bracket would be a length
    "±": r"$\pm$", "Δ": r"$\Delta$", "×": r"$\times$", "‖": r"$\|$", "–": "--",
    "†": r"\dag{}", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text as LaTeX prints it; a character that pdfTeX has no glyph for becomes a question mark."""
    text = "".join(_LATEX.get(letter, letter if letter.isascii() else "?") for letter in text)
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", text)


def _latex_cell(cell: Cell) -> str:
    text = latex_escape(cell.text)
    text = rf"\underline{{{text}}}" if cell.underline else text
    return rf"\textbf{{{text}}}" if cell.bold else text


def _markdown_escape(text: str) -> str:
    """Names come from configurations: markup in one is shown, not followed. The brackets of an interval may stay."""
    escaped = re.sub(r"([\\|*_`<>])", r"\\\1", " ".join(text.split()))
    return escaped.replace("](", r"\](")


def _markdown_cell(cell: Cell) -> str:
    text = _markdown_escape(cell.text)
    text = f"<ins>{text}</ins>" if cell.underline else text  # the one underline that GitHub keeps
    return f"**{text}**" if cell.bold else text


def _pad(texts: list[str], widths: list[int], columns: list[Column]) -> list[str]:
    padded = zip(texts, widths, columns, strict=True)
    return [text.ljust(width) if column.left else text.rjust(width) for text, width, column in padded]


def _style(cell: Cell) -> str:
    return " ".join(name for name, on in (("bold", cell.bold), ("underline", cell.underline)) if on)


def _csv_value(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
