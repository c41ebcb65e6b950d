"""Runs of one grid at two sizes in one folder: those that the experiment's file asks for are the ones reported."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from synthetic_runs import write_run

from normlab.config.identity import run_dir
from normlab.experiment.grid import cells
from normlab.experiment.schema import Experiment, load_experiment
from normlab.report.comparison import _once, compare
from normlab.report.fairness import UnfairComparison
from normlab.report.labels import init_name
from normlab.report.runs import as_text, load_runs
from normlab.report.table import build_table
from normlab.sweep.asked import known_experiments

EXPERIMENT = Experiment(
    name="synthetic", question="?", overrides=["scale=smoke"], grid={"placement": ["pre", "post"]}, seeds=[0, 1],
    baseline={"placement": "pre"}, figures=[],
)  # fmt: skip


def make(root: Path, val_loss: float, *overrides: str) -> None:
    """Every cell of the experiment, as `normlab sweep synthetic OVERRIDES` would leave it."""
    for cell in cells(EXPERIMENT, [f"runs_dir={root}", *overrides]):
        folder = run_dir(cell.config)
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_run(root / "made", cell.config.placement.name, cell.seed, val_loss, train={"steps": 5}).rename(folder)
        (folder / "config.yaml").write_text(yaml.safe_dump(cell.config.model_dump(mode="json", by_alias=True)))


def frame_of(root: Path) -> pd.DataFrame:
    return load_runs(root / "synthetic")


def test_runs_of_another_size_are_left_out_with_a_note(tmp_path: Path) -> None:
    make(tmp_path, 9.0, "train.steps=7")
    make(tmp_path, 2.0)
    comparison = compare(frame_of(tmp_path), EXPERIMENT)
    assert [row.by_seed for row in comparison.rows] == [{0: 2.0, 1: 2.0}] * 2
    assert (comparison.n_outside, comparison.n_beside, comparison.missing) == (4, 4, [])
    notes = build_table(frame_of(tmp_path), EXPERIMENT).notes
    assert "4 runs of another size or setting lie beside them and are left out." in notes
    assert not any("outside the grid" in note for note in notes)


def test_where_only_another_size_was_run_it_is_reported(tmp_path: Path) -> None:
    make(tmp_path, 9.0, "train.steps=7")
    comparison = compare(frame_of(tmp_path), EXPERIMENT)
    assert [len(row.usable) for row in comparison.rows] == [2, 2]
    assert comparison.n_outside == 0


def test_two_other_sizes_are_refused_as_ever(tmp_path: Path) -> None:
    make(tmp_path, 9.0, "train.steps=7")
    make(tmp_path, 8.0, "train.steps=8")
    with pytest.raises(UnfairComparison, match=r"rows differ in train\.steps"):
        compare(frame_of(tmp_path), EXPERIMENT)


def test_damaged_runs_stay_apart_and_a_copy_counts_once(tmp_path: Path) -> None:
    for root in ("one", "copy"):
        write_run(tmp_path / root, "pre")
        for seed in (1, 2):
            (write_run(tmp_path / root, "pre", seed) / "config.yaml").write_text("[")
    assert sorted(_once(load_runs(tmp_path))["status"]) == ["corrupt"] * 4 + ["done"]


def test_the_inits_of_one_experiment_have_names_that_differ() -> None:
    """A long one is cut in the table: never to what another row has too."""
    grids = [product for name in known_experiments() for product in load_experiment(name).grid]
    inits = [[init_name(as_text(init)) for init in product["init"]] for product in grids if "init" in product]
    assert inits and all(len(names) == len(set(names)) for names in inits)
