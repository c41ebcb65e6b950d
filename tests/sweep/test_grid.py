"""From an experiment to its cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from normlab.errors import UserError
from normlab.experiment import Experiment
from normlab.experiment.grid import cells, cells_of_command_line


def experiment(**more: object) -> Experiment:
    plain = {
        "name": "try",
        "question": "?",
        "overrides": ["scale=smoke"],
        "grid": {"placement": ["pre", "post"]},
    }
    return Experiment.model_validate(plain | more)


def test_all_treatments_of_a_seed_before_the_next() -> None:
    grid = {"placement": ["pre", "post"], "optim.lr": ["2e-3"]}
    found = cells(experiment(grid=grid, tune="optim.lr", seeds=[0, 1], tune_seeds=[1, 7]))
    assert [(cell.seed, cell.factors["placement"]) for cell in found] == [
        (0, "pre"), (0, "post"), (1, "pre"), (1, "post"), (7, "pre"), (7, "post"),
    ]  # fmt: skip
    assert found[0].overrides == (
        "experiment=try",
        "scale=smoke",
        "placement=pre",
        "optim.lr=2e-3",
        "seed=0",
    )
    assert found[0].config.experiment == "try" and found[0].config.model.name == "nano"


def test_a_union_of_products_without_repetitions() -> None:
    grid = [{"placement": ["pre"], "optim.lr": ["1e-3", 3e-3]}, {"placement": ["pre", "post"]}]
    found = cells(experiment(grid=grid))
    assert [cell.factors for cell in found] == [
        {"placement": "pre", "optim.lr": "1e-3"},
        {"placement": "pre", "optim.lr": "0.003"},
        {"placement": "post"},
    ], "smoke's own LR is 0.003: that cell is there once"


def test_the_command_line_wins_and_may_sweep() -> None:
    found = cells(experiment(seeds=[0, 1]), ["seed=5", "optim.lr=1e-3,2e-3", "placement=hybrid"])
    assert [(cell.seed, cell.config.placement.name, cell.config.optim.lr) for cell in found] == [
        (5, "hybrid", 1e-3),
        (5, "hybrid", 2e-3),
    ]
    assert found[0].factors == {"placement": "hybrid", "optim.lr": "0.001"}


def test_seeds_on_the_command_line_replace_those_of_the_file() -> None:
    found = cells(experiment(seeds=[0, 1]), ["seed=range(5,7)"])
    assert [(cell.seed, cell.config.placement.name) for cell in found] == [
        (5, "pre"), (5, "post"), (6, "pre"), (6, "post"),
    ]  # fmt: skip


def test_seeds_that_choose_and_seeds_that_report_belong_to_the_file() -> None:
    tuned = experiment(grid={"optim.lr": ["1e-3", "2e-3"]}, tune="optim.lr", seeds=[1], tune_seeds=[0])
    with pytest.raises(UserError, match=r"^seed=0,1: experiment try .* tune_seeds choose optim.lr .* edit the file"):
        cells(tuned, ["seed=0,1"])


def test_formulas_and_null_in_a_grid() -> None:
    grid = {"placement.attn.pre": ["n(gain=1/sqrt(l))", "n | c(0.5)", None], "data.hub_config": ["a, b"]}
    found = cells(experiment(grid=grid))
    assert [cell.config.placement.attn.pre for cell in found] == ["n(gain=1/sqrt(l))", "n | c(0.5)", None]
    assert found[0].config.data.hub_config == "a, b"


def test_a_sweep_typed_on_the_command_line() -> None:
    found = cells_of_command_line(["placement=pre,post", "seed=range(2)", "scale=smoke"])
    assert [(cell.seed, cell.factors) for cell in found] == [
        (0, {"placement": "pre"}),
        (0, {"placement": "post"}),
        (1, {"placement": "pre"}),
        (1, {"placement": "post"}),
    ]


def test_a_cell_that_is_no_run_is_named() -> None:
    with pytest.raises(UserError, match=r"^cell model.n_heads=3 seed=0: model.n_heads=3 does not divide"):
        cells(experiment(grid={"model.n_heads": [4, 3]}))


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("experiments/*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_experiment_has_cells(path: Path) -> None:
    from normlab.experiment import load_experiment

    assert cells(load_experiment(str(path)))
