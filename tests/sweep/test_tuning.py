"""Some seeds try every value and choose; the others run at the chosen one. Same rule in the sweep and the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from normlab.config.identity import run_dir
from normlab.experiment.grid import Cell, cells
from normlab.experiment.schema import Experiment
from normlab.experiment.tuning import best_value, final_result
from normlab.sweep.tuning import asked_cells, choose, chosen_cells, tuning_cells


def test_the_smallest_mean_of_the_values_that_lost_least():
    assert best_value({"a": [2.0, 4.0], "b": [2.9, 2.9]}) == "b"
    assert best_value({"a": [1.0, None], "b": [9.0, 9.0]}) == "b"
    assert best_value({"a": [None], "b": [], "c": []}) == "a"
    assert best_value({"a": []}) is None


def test_a_lost_run_has_no_result():
    done = {"status": "done", "outcome": "ok", "final": {"val_loss": 2.0}}
    assert final_result(done, "val_loss") == 2.0
    assert final_result(done | {"outcome": "exploded"}, "val_loss") is None
    assert final_result(done | {"status": "diverged"}, "val_loss") is None


def test_a_result_that_stands_beside_the_final_ones_is_found_too():
    summary = {"status": "done", "outcome": "ok", "final": {"val_loss": 2.0}, "best_val_loss": 1.5}
    assert final_result(summary, "best_val_loss") == 1.5
    assert final_result(summary, "val_loss") == 2.0
    assert final_result(summary | {"final": None}, "val_loss") is None


@pytest.fixture
def tuned(tmp_path: Path) -> tuple[Experiment, list[Cell]]:
    experiment = Experiment(
        name="tuned", question="?", seeds=[1, 2], tune="optim.lr", tune_seeds=[0],
        grid={"placement": ["pre", "post"], "optim.lr": [0.001, 0.002]}, overrides=["scale=smoke"],
    )  # fmt: skip
    return experiment, cells(experiment, [f"runs_dir={tmp_path}"])


def finish(cell: Cell, val_loss: float, best: float | None = None) -> None:
    folder = run_dir(cell.config)
    folder.mkdir(parents=True)
    summary = {"status": "done", "outcome": "ok", "final": {"val_loss": val_loss}, "best_val_loss": best}
    (folder / "summary.json").write_text(json.dumps(summary))


def test_reported_seeds_run_at_the_chosen_value_only(tuned):
    experiment, grid = tuned
    first = tuning_cells(experiment, grid)
    assert len(grid) == 12 and [cell.seed for cell in first] == [0, 0, 0, 0]
    for cell in first:
        best = {"pre": 0.001, "post": 0.002}[cell.config.placement.name]
        finish(cell, abs(cell.config.optim.lr - best))
    choice = choose(experiment, grid)
    assert choice.describe() == "optim.lr chosen: placement=pre 0.001, placement=post 0.002"
    second = chosen_cells(experiment, grid, choice)
    assert [(cell.seed, cell.config.placement.name, cell.config.optim.lr) for cell in second] == [
        (1, "pre", 0.001), (1, "post", 0.002), (2, "pre", 0.001), (2, "post", 0.002),
    ]  # fmt: skip
    assert asked_cells(experiment, grid) == first + second


def test_a_method_that_has_not_tried_every_value_waits(tuned):
    experiment, grid = tuned
    for cell, loss in zip(tuning_cells(experiment, grid)[:3], (1.0, 2.0, 0.5), strict=True):
        finish(cell, loss)
    choice = choose(experiment, grid)
    assert list(choice.values.values()) == ["0.001"]
    assert {cell.config.placement.name for cell in chosen_cells(experiment, grid, choice)} == {"pre"}


def test_the_best_validation_loss_can_choose(tuned):
    experiment, grid = tuned
    experiment = experiment.model_copy(update={"metric": "best_val_loss"})
    for cell in tuning_cells(experiment, grid):
        finish(cell, 2.0, best=2.0 - cell.config.optim.lr)
    assert list(choose(experiment, grid).values.values()) == ["0.002", "0.002"]


def test_tune_seeds_need_something_to_tune():
    with pytest.raises(ValidationError, match=r"name it, for example `tune: optim\.lr`"):
        Experiment(name="x", question="?", grid={"placement": ["pre"]}, tune_seeds=[0])


def test_a_damaged_result_chooses_nothing(tuned):
    experiment, grid = tuned
    for cell in tuning_cells(experiment, grid):
        finish(cell, cell.config.optim.lr)
    broken = next(cell for cell in tuning_cells(experiment, grid) if cell.config.placement.name == "pre")
    (run_dir(broken.config) / "SHA256SUMS").write_text("0" * 64 + "  summary.json\n")
    assert {cell.config.placement.name for cell in chosen_cells(experiment, grid, choose(experiment, grid))} == {"post"}
