"""The comparison in a terminal: a row per treatment, and a line for every run that is not well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab.compare.run import ComparedRun
from normlab.compare.thinning import moving_average
from normlab.compare.treatments import Treatment, factor_title

_BARS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 16
_WIDTH = 150  # where the output is no terminal and cannot be asked
_STYLE = {"ok": "green", "running": "cyan", "interrupted": "yellow", "stagnated": "yellow", "degraded": "yellow"}
_COLUMNS = ("n", "outcome", "val loss", "loss", "spikes", "max grad", "dead grad", "last RMS")


def print_summary(treatments: Sequence[Treatment], console: Console | None = None) -> None:
    """``n``: seeds. Val loss: mean ± sd of the finished ones, neither nan nor exploded. Of the rest the worst seed."""
    console = console or _console()
    console.print(_table(treatments))
    console.print(
        "val loss: mean ± sd over finished seeds; spikes: loss events of all seeds; max grad: before clipping; "
        "dead grad: blocks below a thousandth of the largest; last RMS: of the stream after the last block",
        style="dim",
        soft_wrap=True,
    )
    if unnamed := dict.fromkeys(factor_title(factor) for treatment in treatments for factor in treatment.unnamed):
        console.print(f"the treatments also differ in: {', '.join(unnamed)}", style="dim", soft_wrap=True, markup=False)
    for line in complaints(treatments):
        console.print(line, soft_wrap=True)


def complaints(treatments: Sequence[Treatment]) -> list[Text]:
    """One line for every run that is not ok: what it is, how it ended, from which step and layer on, and why."""
    lines = []
    for treatment in treatments:
        for run in treatment.runs:
            if run.verdict != "ok":
                seed = "" if run.seed is None else f", seed {run.seed}"
                line = Text(f"{treatment.label}{seed}: ").append(_verdict(run), _style(run.verdict))
                lines.append(line.append(f". {run.why}" if run.why else ""))
    return lines


def sparkline(losses: Sequence[float], low: float, high: float) -> str:
    """A curve in one line of text, between two levels that all rows share."""
    if not losses:
        return ""
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    width = min(_SPARK_WIDTH, len(losses))
    picked = [losses[round(i * (len(losses) - 1) / max(width - 1, 1))] for i in range(width)]
    return "".join(_BARS[round(min(max(loss - low, 0.0), high - low) * scale)] for loss in picked)


def _table(treatments: Sequence[Treatment]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("treatment", overflow="fold")
    for title in _COLUMNS:
        left = title in ("outcome", "loss")
        table.add_column(title, justify="left" if left else "right", no_wrap=title != "outcome")
    curves = [_curve(treatment) for treatment in treatments]
    everything = [loss for curve in curves for loss in curve]
    starts = [curve[0] for curve in curves if curve]
    low, high = min(everything, default=0.0), median(starts) if starts else 0.0
    for treatment, curve in zip(treatments, curves, strict=True):
        table.add_row(Text(treatment.label), *_cells(treatment), sparkline(curve, low, high), *_numbers(treatment))
    return table


def _cells(treatment: Treatment) -> tuple[str, Text, str]:
    counts = Counter(run.verdict for run in treatment.runs)
    words = [Text(f"{count} {verdict}", _style(verdict)) for verdict, count in counts.most_common()]
    found = treatment.estimate
    loss = "" if found is None else f"{found.mean:.4f}" + (f" ± {found.sd:.4f}" if found.sd is not None else "")
    return str(len(treatment.runs)), Text(", ").join(words), loss


def _numbers(treatment: Treatment) -> list[str]:
    """Spikes are added up; of the others the largest of the seeds is shown."""
    spikes = [run.spikes for run in treatment.runs if run.spikes is not None]
    columns = [
        ([run.max_grad_norm for run in treatment.runs], "{:.3g}"),
        ([run.dead_gradients for run in treatment.runs], "{:.0%}"),
        ([run.last_layer_rms for run in treatment.runs], "{:.3g}"),
    ]
    worst = [(max((v for v in values if v is not None), default=None), form) for values, form in columns]
    return [str(sum(spikes)) if spikes else "", *("" if value is None else form.format(value) for value, form in worst)]


def _curve(treatment: Treatment) -> list[float]:
    """The averaged loss of the first seed that has one: a shape, not a number."""
    series = next((found for run in treatment.runs if len(found := run.series("loss"))), None)
    return [] if series is None else [float(loss) for loss in moving_average(series)]


def _verdict(run: ComparedRun) -> str:
    words = [run.verdict]
    if run.status in ("running", "interrupted"):
        words.append(f"at step {run.step}" + (f" of {run.steps}" if run.steps else ""))
    elif run.first_bad_step is not None:
        words.append(f"from step {run.first_bad_step} on")
    if run.bad_layer is not None:
        words.append(f"in layer {run.bad_layer}")
    return " ".join(words)


def _style(verdict: str) -> str:
    return _STYLE.get(verdict, "red")


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=_WIDTH, highlight=False)
