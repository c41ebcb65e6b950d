"""Factors that differ, seeds that belong together, one colour per placement."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_runs import write_run

from normlab.compare.run import read_run
from normlab.compare.select import select_runs
from normlab.compare.treatments import Treatment, compared_factors, dash, group_runs
from normlab.style import GREY


def _grouped(folder: Path) -> tuple[list[str], list[Treatment]]:
    frame = select_runs([str(folder)])
    factors = compared_factors(frame)
    return factors, group_runs([read_run(row) for row in frame.to_dict("records")], factors)


def test_only_what_differs_is_a_factor(tmp_path: Path) -> None:
    for placement in ("pre", "hybrid"):
        for lr in (1e-3, 3e-3):
            for seed in (0, 1):
                write_run(tmp_path, placement, seed=seed, optim={"lr": lr})
    factors, treatments = _grouped(tmp_path)
    assert factors == ["placement", "optim.lr"]
    assert len(treatments) == 4 and all(len(treatment.runs) == 2 for treatment in treatments)
    assert {treatment.label for treatment in treatments} >= {"HybridNorm, LR=0.003", "Pre-Norm, LR=0.001"}


def test_seeds_alone_differ_in_nothing(tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        write_run(tmp_path, "pre", seed=seed)
    factors, treatments = _grouped(tmp_path)
    assert factors == [] and [run.seed for run in treatments[0].runs] == [0, 1, 2]
    assert treatments[0].label == "Pre-Norm"


def test_depth_init_and_the_experiment_can_be_factors(tmp_path: Path) -> None:
    write_run(tmp_path, "hybrid", model={"n_layers": 6})
    write_run(tmp_path, "hybrid", model={"n_layers": 12}, init="normal", experiment="deeper")
    factors, treatments = _grouped(tmp_path)
    assert set(factors) >= {"experiment", "model.n_layers", "init"}
    assert len(treatments) == 2


def test_a_name_says_no_more_than_tells_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "pre")
    write_run(tmp_path, "pre", optim={"lr": 0.1, "warmup_steps": 9}, model={"n_layers": 12})
    write_run(tmp_path, "post", optim={"warmup_steps": 9})
    factors, treatments = _grouped(tmp_path)
    assert set(factors) == {"placement", "model.n_layers", "optim.lr", "optim.warmup_steps"}
    names = {(treatment.label, treatment.rest) for treatment in treatments}
    assert names == {
        ("Pre-Norm, Layers=6", "LR=0.003, Warm-up=0"),
        ("Pre-Norm, Layers=12", "LR=0.1, Warm-up=9"),
        ("Post-Norm, Layers=6", "LR=0.003, Warm-up=9"),
    }


def test_a_placement_under_two_names_is_two(tmp_path: Path) -> None:
    write_run(tmp_path, "pre")
    write_run(tmp_path, "mine")  # the same slots
    _, treatments = _grouped(tmp_path)
    assert {treatment.label for treatment in treatments} == {"Pre-Norm", "mine"}


def test_the_best_stands_first_and_one_without_a_loss_last(tmp_path: Path) -> None:
    write_run(tmp_path, "pre", val_loss=2.4)
    write_run(tmp_path, "hybrid", val_loss=2.2)
    write_run(tmp_path, "post", val_loss=None, status="diverged", outcome="nan", diverged_step=9)
    (write_run(tmp_path, "deepnorm") / "config.yaml").write_text("seed: [")
    _, treatments = _grouped(tmp_path)
    assert [treatment.placement for treatment in treatments] == ["hybrid", "pre", "post", ""]
    assert [treatment.colour for treatment in treatments] == ["#009E73", "#0072B2", "#D55E00", GREY]
    assert treatments[-1].runs[0].verdict == "damaged" and treatments[-1].cell == {}


def test_a_damaged_run_is_alone(tmp_path: Path) -> None:
    for seed in (0, 1):
        (write_run(tmp_path, "pre", seed=seed) / "config.yaml").write_text("[")
    factors, treatments = _grouped(tmp_path)
    assert factors == [] and len(treatments) == 2


def test_a_mean_is_over_runs_that_finished(tmp_path: Path) -> None:
    write_run(tmp_path, "pre", seed=0, val_loss=2.0)
    write_run(tmp_path, "pre", seed=1, val_loss=3.0)
    write_run(tmp_path, "pre", seed=2, val_loss=99.0, outcome="exploded")
    write_run(tmp_path, "pre", seed=3, val_loss=50.0, outcome=None, status="interrupted")
    _, [treatment] = _grouped(tmp_path)
    found = treatment.estimate
    assert found is not None and (found.n, found.mean) == (2, 2.5) and found.sd == pytest.approx(0.5**0.5)


def test_strokes_are_plotlys() -> None:
    assert dash("-") == "solid" and dash((0, (4, 1.5))) == "8px,3px"
