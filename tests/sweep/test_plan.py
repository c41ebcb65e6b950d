"""``normlab sweep --dry-run``: what would run, what is done, what the rest costs; and nothing else happens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from normlab.cli import main
from normlab.config.identity import run_dir
from normlab.experiment import grid, load_experiment

TUNED = """
question: why
overrides: [scale=smoke, data.tokenizer.kind=bytes]
grid: {placement: [pre, hybrid], optim.lr: [1e-3, 2e-3]}
tune: optim.lr
tune_seeds: [9]
seeds: [0, 1]
"""
SEARCHED = TUNED.replace(", optim.lr: [1e-3, 2e-3]", "").replace(
    "tune: optim.lr", "tune: {search: optuna, key: optim.lr, low: 1e-3, high: 1e-2, trials: 5}"
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    Path("mine.yaml").write_text(TUNED)
    Path("searched.yaml").write_text(SEARCHED)


def plan(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    before = sorted(Path().rglob("*"))
    assert main(["sweep", *words, "--dry-run"]) == 0
    assert sorted(Path().rglob("*")) == before, "nothing is written"
    return capsys.readouterr().out


def run_of_pre(lr: float, **summary: object) -> Path:
    """The folder of the run that tries ``lr``, with that summary."""
    (cell,) = [cell for cell in grid.cells(load_experiment("mine.yaml"), ["placement=pre"])
               if (cell.seed, cell.config.optim.lr) == (9, lr)]  # fmt: skip
    folder = run_dir(cell.config)
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_cells_and_what_follows_from_them(capsys: pytest.CaptureFixture[str]) -> None:
    shown = plan("mine.yaml", "--tflops", "0.001", "launch.jobs=4", capsys=capsys)
    assert shown.count("to do ") == 4 and "runs/mine/pre-rmsnorm-nano-lr0.001" in shown
    assert shown.count("the best") == 2 and "8 runs: 0 done, 8 to do. Nothing was started." in shown
    assert "at 0.001 TFLOP/s, one after the other; about" in shown and "with 4 at once" in shown


def test_at_once_are_the_cells_of_all_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["launch=slurm", "launch.jobs=3", "launch.gpus=1", "launch.per_gpu=4", "launch.cells_per_task=2"]
    assert "with 6 at once" in plan("mine.yaml", "--tflops", "0.001", *words, capsys=capsys)


def test_what_is_done_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run_of_pre(1e-3, status="done", outcome="ok", final={"val_loss": 2.0})
    run_of_pre(2e-3, status="done", outcome="ok", final={"val_loss": 1.0})
    shown = plan("mine.yaml", capsys=capsys)
    assert "8 runs: 2 done, 6 to do" in shown and "What is left: 30.7 k tokens" in shown, "6 of 20 steps of 4 x 64"
    assert shown.count("the best") == 1, "of the other method only"
    assert shown.count("pre-rmsnorm-nano-lr0.002") == 3, "the reported seeds stand at the chosen value"
    assert "Hours of all are not known" in shown


def test_a_cut_run_costs_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_of_pre(1e-3, status="interrupted")
    whole = plan("mine.yaml", capsys=capsys)
    (folder / "metrics.jsonl").write_text('{"step": 15, "loss": 3.0}\n')
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "step_0000010.json").write_text("{}")
    shown = plan("mine.yaml", capsys=capsys)
    assert "to do from step 10/20" in shown and "1 of them begun" in shown and "begun" not in whole
    assert "What is left: 41 k tokens" in whole and "What is left: 38.4 k tokens" in shown


def test_a_search_says_how_much_it_will_try(capsys: pytest.CaptureFixture[str]) -> None:
    shown = plan("searched.yaml", capsys=capsys)
    assert shown.count("3 to be tried") == 2 and shown.count("the best") == 2
    assert "14 runs: 0 done, 14 to do" in shown, "5 trials and 2 seeds for each of 2 placements"


def test_values_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    shown = plan("placement=pre,post", "scale=smoke", "seed=range(3)", capsys=capsys)
    assert "6 runs: 0 done, 6 to do" in shown


@pytest.mark.parametrize("words", [["mine.yaml", "--tflops", "3"], ["mine.yaml", "--dry-run", "--tflops", "0"]])
def test_a_speed_belongs_to_a_dry_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *words]) == 2
    assert capsys.readouterr().err == "normlab: --tflops X, more than 0, belongs to --dry-run\n"
