"""What the page draws from: the compared runs as plain data, rounded and thinned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from normlab.compare.quantities import first_quantities, title
from normlab.compare.run import ANCHORS, ComparedRun
from normlab.compare.thinning import CURVE_POINTS, moving_average, stride, thin, thin_rows
from normlab.compare.treatments import Treatment, factor_text, factor_title
from normlab.observe.pairs import matrix_axes

Plain = dict[str, Any]
_DRAWN_APART = ("loss", "grad_norm", "lr", "val_loss", "tokens", "clipped")  # have panels, or are no curve
_DIGITS = 5  # significant ones: finer than a pixel of any panel
_MATRIX_STEPS = 12  # a matrix of layers by layers is as large as all profiles of a step together


def payload(treatments: Sequence[Treatment], factors: Sequence[str], heading: str) -> Plain:
    """Everything on the page, as JSON takes it; runs in the order of the treatments."""
    runs = [run for treatment in treatments for run in treatment.runs]
    every = stride(max((run.step for run in runs), default=1))
    written = [_run(run, number, every) for number, treatment in enumerate(treatments) for run in treatment.runs]
    kinds = _kinds(runs)
    layered = [name for name, kind in kinds.items() if kind in ("layers", "groups")]
    longest = max((len(run.metrics) for run in runs), default=0)
    return {
        "heading": heading,
        "factors": [_factor(factor, treatments) for factor in factors],
        "treatments": [_treatment(treatment, factors) for treatment in treatments],
        "runs": written,
        "kinds": kinds,
        "matrices": {name: matrix_axes(name) for name, kind in kinds.items() if kind == "matrix"},
        "titles": {name: title(name) for name in (*kinds, *_columns(runs))},
        "first": first_quantities(layered),
        "columns": _columns(runs),
        "anchors": _anchors(runs),
        "thinned": {"longest": longest, "points": CURVE_POINTS, "every": every} if longest > CURVE_POINTS else None,
    }


def as_cell(treatment: Treatment, factor: str) -> str:
    return factor_text(factor, treatment.cell[factor]) if factor in treatment.cell else "unknown"


def rounded(value: Any) -> Any:
    """Numbers with five significant digits, what is not finite as null; lists and mappings entry by entry."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value


def _factor(factor: str, treatments: Sequence[Treatment]) -> Plain:
    values = {as_cell(treatment, factor): treatment.cell.get(factor) for treatment in treatments if treatment.cell}
    numeric = all(isinstance(value, (int, float)) for value in values.values())
    ordered = sorted(values, key=lambda text: (values[text] if numeric else 0, text))
    return {"key": factor, "title": factor_title(factor), "values": ordered}


def _treatment(treatment: Treatment, factors: Sequence[str]) -> Plain:
    return {
        "label": treatment.label,
        "rest": treatment.rest,
        "colour": treatment.colour,
        "dash": treatment.dash,
        "values": [as_cell(treatment, factor) for factor in factors],
    }


def _run(run: ComparedRun, treatment: int, every: int) -> Plain:
    smooth = {
        "loss": moving_average(run.series("loss")),
        "grad_norm": moving_average(run.series("grad_norm"), log=True),
    }
    return rounded(
        {
            "name": run.name,
            "treatment": treatment,
            "seed": run.seed,
            "verdict": run.verdict,
            "averaged": run.averaged,
            "step": run.step,
            "steps": run.steps,
            "final": run.final_loss,
            "latest": run.latest_loss,
            "spikes": run.spikes,
            "max_grad_norm": run.max_grad_norm,
            "dead": run.dead_gradients,
            "first_bad_step": run.first_bad_step,
            "bad_layer": run.bad_layer,
            "bad_quantity": run.row.get("diagnosis.quantity"),
            "bad_step": run.number("diagnosis.step"),
            "why": run.why,
            "speed": run.number("tokens_per_s"),
            "clip": run.number("optim.grad_clip"),
            "curves": {
                name: _curve(thin(run.series(name))) for name in ("loss", "grad_norm", "lr") if len(run.series(name))
            },
            "smooth": {name: _curve(series[series.index % every == 0]) for name, series in smooth.items()},
            "val": _curve(run.series("val_loss")),
            "events": {kind: [_event(run, kind, event) for event in run.events[kind]] for kind in run.events},
            "more": {name: _curve(thin(run.series(name))) for name in _columns([run])},
            "probes": _probes(run),
        }
    )


def _curve(series: pd.Series) -> list[list[Any]]:
    """[steps, values]."""
    return [[int(step) for step in series.index], [float(value) for value in series]]


def _event(run: ComparedRun, kind: str, event: Plain) -> Plain:
    """An event with the height of its curve where it starts and at its top."""
    series = run.series(kind)
    start, recovery = int(event["start"]), event.get("recovery")
    during = series[(series.index >= start) & (series.index <= start + (recovery or 0))]
    top = float(during.max()) if len(during) else None
    return {"start": start, "recovery": recovery, "amplitude": event.get("amplitude"), "top": top}


def _probes(run: ComparedRun) -> Plain:
    """Per quantity, its kind's shape at each of its own steps: {"steps": [...], "values": [...]}."""
    found: dict[str, Plain] = {}
    for row in thin_rows(run.probes):
        for name, value in row.items():
            if name != "step" and value not in ({}, []):
                series = found.setdefault(name, {"steps": [], "values": []})
                series["steps"].append(int(row["step"]))
                series["values"].append(value)
    for name, series in found.items():
        if kind_of(series["values"][-1]) == "matrix":
            kept = sorted({round(i * (len(series["steps"]) - 1) / _MATRIX_STEPS) for i in range(_MATRIX_STEPS + 1)})
            found[name] = {key: [values[at] for at in kept] for key, values in series.items()}
    return found


def kind_of(value: Any) -> str:
    """number (of the network), layers (one per block), groups (by name), matrix (over pairs of layers)."""
    if isinstance(value, dict):
        return "groups"
    if isinstance(value, list):
        return "matrix" if value and isinstance(value[0], list) else "layers"
    return "number"


def _kinds(runs: Sequence[ComparedRun]) -> dict[str, str]:
    return {
        name: kind_of(value)
        for run in runs
        for row in run.probes
        for name, value in row.items()
        if name != "step" and value not in ({}, [], None)
    }


def _columns(runs: Sequence[ComparedRun]) -> list[str]:
    """The columns of metrics.jsonl that no panel of their own shows."""
    columns = dict.fromkeys(str(column) for run in runs for column in run.metrics.columns)
    return [column for column in columns if column not in _DRAWN_APART]


def _anchors(runs: Sequence[ComparedRun]) -> Plain:
    """Levels of the loss that all runs share; the initial loss is drawn as a mean, for it differs by a little."""
    found = {}
    for name, column in ANCHORS.items():
        values = [value for run in runs if (value := run.number(column)) is not None]
        if values and max(values) - min(values) < 0.2:
            found[name] = sum(values) / len(values)
    return rounded(found)
