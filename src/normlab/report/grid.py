"""Which run belongs to which cell of an experiment's grid."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from normlab.config.identity import treatment_hash
from normlab.errors import UserError
from normlab.experiment.grid import cells as composed_cells
from normlab.experiment.schema import Experiment, Value
from normlab.placement.init_notation import from_notation
from normlab.placement.schema import InitSpec
from normlab.report.fairness import undeclared_keys, varying_keys
from normlab.report.runs import NAMED_GROUPS, as_setting, as_text, init_text

Cell = dict[str, Value]


def cells(experiment: Experiment) -> list[Cell]:
    """The grid written out, in the order of the file: a union of products."""
    written: list[Cell] = []
    for product in experiment.grid:
        for values in itertools.product(*product.values()):
            cell = dict(zip(product, values, strict=True))
            if cell not in written:
                written.append(cell)
    return written


def all_seeds(experiment: Experiment) -> list[int]:
    """The reported seeds and those that only choose the tuned value."""
    return list(dict.fromkeys([*experiment.seeds, *experiment.tune_seeds]))


def runs_of_cells(frame: pd.DataFrame, experiment: Experiment) -> list[tuple[Cell, pd.DataFrame]]:
    """Each cell with its runs, of the experiment's seeds.

    A run that fits two cells belongs to the one that says more:
    ``{placement: hybrid, placement.attn.v: null}`` before ``{placement: hybrid}``.
    """
    written = cells(experiment)
    seeded = frame[frame["seed"].isin(all_seeds(experiment))] if "seed" in frame else frame.iloc[:0]
    members: dict[int, list[Any]] = {index: [] for index in range(len(written))}
    for label, run in seeded.iterrows():
        fitting = [index for index, cell in enumerate(written) if _fits(run, cell)]
        detail = max((len(written[index]) for index in fitting), default=0)
        for index in fitting:
            if len(written[index]) == detail:
                members[index].append(label)
    return [(cell, seeded.loc[members[index]]) for index, cell in enumerate(written)]


def of_one_setting(
    placed: list[tuple[Cell, pd.DataFrame]], experiment: Experiment
) -> tuple[list[tuple[Cell, pd.DataFrame]], int]:
    """Without the runs of the same grid at another size (``scale=smoke``), and how many those were.

    Where runs differ beyond the factors, those count that are just what the experiment's file asks for. All are
    kept where there is none: whoever ran the grid at another size only wants that one reported; not in a folder of
    runs that experiments share, where others may be another experiment's.
    """
    found = pd.concat([runs for _, runs in placed])
    if not experiment.runs and not undeclared_keys(found, experiment.factors):
        return placed, 0
    try:
        asked = {treatment_hash(cell.config) for cell in composed_cells(experiment)}
    except UserError:  # it names a placement of a --config-dir that a report is not told of
        return placed, 0
    others = set(found.index[~found["treatment"].isin(asked)])
    if not experiment.runs and len(others) == found.index.nunique():
        return placed, 0
    return [(cell, runs.drop(runs.index.intersection(sorted(others)))) for cell, runs in placed], len(others)


def differing_factors(frame: pd.DataFrame) -> list[str]:
    """In what the runs differ, seeds apart, as a grid would name it: a group where that explains it, else a key."""
    factors: list[str] = [group for group in NAMED_GROUPS if frame[group].nunique() > 1]
    if frame["init_asked"].nunique() > 1:
        factors.append("init")
    for key in varying_keys(frame):
        within = [factor for factor in factors if factor in NAMED_GROUPS and key.startswith(factor + ".")]
        explained = within or (["placement"] if key == "init" and "placement" in factors else [])
        texts = frame[key].map(as_text)
        if not explained or (key != "init" and (texts.groupby(frame[explained[0]]).nunique() > 1).any()):
            factors.append(key)
    return list(dict.fromkeys(factors))


def implied_experiment(frame: pd.DataFrame, name: str) -> Experiment:
    """The experiment that runs made without a file amount to: whatever varies, seeds apart, is a factor."""
    frame = frame[frame["status"] != "corrupt"]
    if frame.empty:
        raise UserError(f"every run of '{name}' is damaged; run it again, in another folder or after deleting it")
    factors = differing_factors(frame) or ["placement"]
    baseline_first = frame.sort_values("placement", key=lambda names: names != "pre", kind="stable")
    combinations = baseline_first[factors].drop_duplicates().to_dict("records")
    return Experiment(
        name=name,
        question="",
        grid=[{str(key): [_plain(value)] for key, value in cell.items()} for cell in combinations],
        seeds=sorted({int(seed) for seed in frame["seed"]}),
        baseline={"placement": "pre"} if "placement" in factors and "pre" in set(frame["placement"]) else {},
        tune="optim.lr" if "optim.lr" in factors and len(factors) > 1 else None,
        figures=["loss_curves", "gradient_depth", "residual_depth", "lr_sensitivity"],
    )


def _fits(run: pd.Series, cell: Cell) -> bool:
    return all(_same(_value_in(run, factor, value), _as_reported(factor, value)) for factor, value in cell.items())


def _as_reported(factor: str, value: Value) -> Value:
    """An init as ``init_text`` writes it, however the grid does."""
    spec = from_notation(value) if factor in ("init", "placement.init") else value
    return init_text(InitSpec.model_validate(spec)) if isinstance(spec, dict) else value


def _value_in(run: pd.Series, factor: str, wanted: Value) -> Any:
    if factor == "init" and wanted == "recipe":  # asked for by name or not, the recipe is what was used
        return "recipe" if run["init"] == run["placement.init"] else run["init"]
    return run.get(factor)


def _same(found: Any, wanted: Value) -> bool:
    """A run's frame has a missing slot as NaN, a specification with other spaces, and ``true`` where a grid has 1."""
    if isinstance(found, (bool, np.bool_)) and isinstance(wanted, (int, float)):
        return bool(found == wanted)
    return as_setting(found).replace(" ", "") == as_setting(wanted).replace(" ", "")


def _plain(value: Any) -> Value:
    """A frame's value as a grid would write it."""
    if value is None or value != value:
        return None
    return value.item() if hasattr(value, "item") else value
