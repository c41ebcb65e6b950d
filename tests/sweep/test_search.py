"""A search: half of its trials the same for all, the rest where Optuna says; cut anywhere, it is the same search."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import normlab.data
from normlab.cli import main
from normlab.config.compose import compose
from normlab.config.identity import run_dir
from normlab.config.schema import Config
from normlab.errors import UserError
from normlab.experiment import Experiment, grid, load_experiment
from normlab.experiment.grid import Cell
from normlab.experiment.schema import Search
from normlab.experiment.trials import FILE, add_trials, with_trials
from normlab.sweep import search as search_module
from normlab.sweep.search import propose
from normlab.sweep.stages import stages_of

FILE_TEXT = """
question: where
overrides: [scale=smoke]
grid: {placement: [pre, post]}
tune: {search: optuna, key: optim.lr, low: 1e-4, high: 1e-2, trials: 6}
tune_seeds: [9]
seeds: [0]
"""
BEST = {"pre": 4e-4, "post": 5e-3}


class Remembering:
    """Composes each configuration once for all tests: a search of a few seconds asks for the same cells many times."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Config] = {}

    def __call__(self, overrides: tuple[str, ...]) -> Config:
        if overrides not in self._known:
            self._known[overrides] = compose(overrides)
        return self._known[overrides]

    def cache_clear(self) -> None: ...


REMEMBERED = Remembering()


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "_composed", REMEMBERED)
    Path("searched.yaml").write_text(FILE_TEXT)
    return load_experiment("searched.yaml")


def finish(cell: Cell) -> None:
    """As a run whose loss is the distance from its placement's best learning rate; one that is too large is lost."""
    distance = math.log(cell.config.optim.lr / BEST[cell.config.placement.name]) ** 2
    lost = cell.config.optim.lr > 9e-3
    folder = run_dir(cell.config)
    folder.mkdir(parents=True)
    ended = {"status": "diverged", "outcome": "nan"} if lost else {"status": "done", "outcome": "ok"}
    (folder / "summary.json").write_text(json.dumps(ended | {"final": {"val_loss": None if lost else distance}}))


def sweep(experiment: Experiment, stop_after: int = 99) -> list[list[Cell]]:
    """The stages of a sweep that runs what is not done, and is cut after some runs."""
    stages = []
    for cells in stages_of(experiment, []):
        stages.append(cells)
        for cell in cells:
            if not run_dir(cell.config).exists():
                if not stop_after:
                    return stages
                finish(cell)
                stop_after -= 1
    return stages


def lrs(cells: Sequence[Cell], placement: str) -> list[float]:
    return [cell.config.optim.lr for cell in cells if cell.config.placement.name == placement]


def test_the_first_values_are_spread_evenly() -> None:
    assert Search(search="optuna", key="optim.lr", low=1e-4, high=1e-2, trials=6).first == [1e-4, 1e-3, 1e-2]
    evenly = Search(search="optuna", key="optim.weight_decay", low=0, high=0.3, log=False, trials=8)
    assert evenly.first == [0.0, 0.1, 0.2, 0.3]


def test_each_row_searches_for_itself_and_then_reports(experiment: Experiment) -> None:
    first, *more, last = sweep(experiment)
    assert lrs(first, "pre") == lrs(first, "post") == [1e-4, 1e-3, 1e-2]
    assert [len(cells) for cells in more] == [2, 2, 2]
    tried = {name: lrs(first, name) + [lr for cells in more for lr in lrs(cells, name)] for name in BEST}
    assert all(len(set(values)) == 6 and all(1e-4 <= lr <= 1e-2 for lr in values) for values in tried.values())
    assert tried["pre"] != tried["post"]
    assert {cell.seed for cell in last} == {0}
    for name, best in BEST.items():
        (chosen,) = lrs(last, name)
        assert chosen == min((lr for lr in tried[name] if lr <= 9e-3), key=lambda lr: abs(math.log(lr / best)))
        assert chosen not in (1e-4, 1e-3, 1e-2), "what Optuna said was better than what everybody tries"


def test_a_search_that_was_cut_goes_on_as_if_it_had_not_been(experiment: Experiment) -> None:
    for after in (1, 3, 2, 4):
        sweep(experiment, stop_after=after)
    sweep(experiment)
    cut = (Path("runs/searched") / FILE).read_text()
    Path("runs").rename("cut")
    sweep(experiment)
    assert (Path("runs/searched") / FILE).read_text() == cut
    again = sweep(experiment)
    assert [len(cells) for cells in again] == [12, 2], "all trials are known, and done"


def test_a_row_with_a_run_that_has_not_ended_waits(experiment: Experiment) -> None:
    stages = stages_of(experiment, [])
    for cell in next(stages):
        if (cell.config.placement.name, cell.config.optim.lr) != ("post", 1e-3):
            finish(cell)
    assert {cell.config.placement.name for cell in next(stages)} == {"pre"}


def test_trials_of_rows_that_the_file_no_longer_has_are_left_alone(experiment: Experiment) -> None:
    sweep(experiment)
    Path("searched.yaml").write_text(FILE_TEXT.replace("[pre, post]", "[pre, hybrid]"))
    changed = with_trials(load_experiment("searched.yaml"), Path("runs/searched"))
    assert [list(product["placement"]) for product in changed.grid] == [["pre", "hybrid"], ["pre"]]
    assert len(grid.cells(changed)) == 2 * (3 + 3) + 2 * 3


def test_two_searches_at_once_keep_what_both_tried(experiment: Experiment) -> None:
    folder = Path("runs/searched")
    pre, post = ((("placement", name),) for name in ("pre", "post"))
    rows = [{pre: 2e-4, post: 3e-4}, {pre: 2e-4}, {post: 5e-4}]
    with ThreadPoolExecutor() as threads:
        for _ in threads.map(lambda proposed: add_trials(experiment, folder, proposed), rows):
            pass
    tried = [(trial["row"]["placement"], trial["value"]) for trial in json.loads((folder / FILE).read_text())]
    assert sorted(tried) == [("post", 3e-4), ("post", 5e-4), ("pre", 2e-4)]


def test_damaged_trials_are_no_trials(experiment: Experiment) -> None:
    folder = Path("runs/searched")
    folder.mkdir(parents=True)
    (folder / FILE).write_text('[{"row": {"placem')
    assert with_trials(experiment, folder) == experiment.model_copy(update={"grid": experiment.grid})


def test_the_same_results_ask_for_the_same_value() -> None:
    pytest.importorskip("optuna")
    search = Search(search="optuna", key="optim.lr", low=1e-4, high=1e-2, trials=6)
    results = {1e-4: [3.0], 1e-3: [2.0], 1e-2: [None]}
    value = propose(search, results)
    assert value == propose(search, dict(reversed(results.items()))) and value not in results
    others = {propose(search.model_copy(update={"seed": seed}), results) for seed in range(1, 5)}
    assert others != {value}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("low: 1e-4", "low: 1"), "tune: low=1, high=0.01: low is less and more than 0"),
        (("trials: 6", "trials: 2"), "trials"),
        (
            ("low: 1e-4", "low: 0.00997"),
            "between low=0.00997 and high=0.01 lie 4 values of three digits, fewer than trials=6",
        ),
        (("optuna", "optun"), "optuna"),
        (("grid: {placement: [pre, post]}", "grid: {optim.lr: [1e-3]}"), "optim.lr is searched for: its values do not"),
    ],
)
def test_mistakes_are_one_line(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(FILE_TEXT.replace(*change))
    with pytest.raises(UserError) as error:
        load_experiment(str(path))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_varies_stands_in_the_file(experiment: Experiment) -> None:
    with pytest.raises(UserError, match="norm takes several values on the command line"):
        stages = stages_of(experiment, ["norm=rmsnorm,layernorm"])
        for cell in next(stages):
            finish(cell)
        next(stages)


def test_without_optuna_nothing_runs(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'normlab\[tune\]'"):
        next(stages_of(experiment, []))


def test_a_search_from_the_command_line_to_its_status(
    experiment: Experiment, behaviour: dict[int, str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(normlab.data, "prepare", lambda data: None)
    shorter = FILE_TEXT.replace("[scale=smoke]", "[scale=smoke, train.steps=5]").replace("trials: 6", "trials: 3")
    Path("searched.yaml").write_text(shorter)
    assert main(["sweep", "searched.yaml", "launch.jobs=4"]) == 0
    printed = capsys.readouterr().out
    assert "4 cells: 4 done" in printed and printed.count("2 cells: 2 done") == 2 and "optim.lr chosen:" in printed
    assert main(["status", "searched.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "searched: 8 runs: 8 done" in shown and "not in the grid" not in shown
