"""What a word on the command line means, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_runs import write_run

from normlab.compare.select import select_runs
from normlab.errors import UserError


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs"), "pre", seed=0)
    write_run(Path("runs"), "pre", seed=1)
    write_run(Path("runs"), "hybrid", seed=0)
    write_run(Path("runs"), "post", seed=0, experiment="another")
    return Path("runs")


def _named(*words: str) -> list[str]:
    frame = select_runs(words)
    return sorted(f"{placement}{seed}" for placement, seed in zip(frame["placement"], frame["seed"], strict=True))


def test_names_folders_and_globs(runs: Path) -> None:
    everything = ["hybrid0", "pre0", "pre1"]
    treatment = next((runs / "synthetic").glob("pre*"))
    assert _named("synthetic") == _named("runs/synthetic") == _named(str((runs / "synthetic").resolve())) == everything
    assert _named(str(treatment)) == _named(treatment.name) == _named("runs/*/pre*") == ["pre0", "pre1"]
    assert _named(f"{treatment}/seed1") == _named(f"{treatment}/seed1/summary.json") == ["pre1"]
    assert _named("synthetic/h*") == ["hybrid0"], "a glob below runs_dir"
    assert _named("runs") == ["hybrid0", "post0", "pre0", "pre1"]


def test_a_run_that_two_words_mean_counts_once(runs: Path) -> None:
    assert _named("synthetic", "runs/synthetic/pre*", str(runs.resolve())) == ["hybrid0", "post0", "pre0", "pre1"]


def test_an_experiment_file_means_its_runs(runs: Path) -> None:
    Path("synthetic.yaml").write_text("{question: '', grid: {placement: [pre, hybrid]}}")
    assert _named("synthetic.yaml") == ["hybrid0", "pre0", "pre1"]


def test_a_folder_of_the_same_name_without_runs_does_not_hide_them(runs: Path) -> None:
    Path("synthetic").mkdir()
    assert _named("synthetic") == ["hybrid0", "pre0", "pre1"]


def test_a_mistake_is_told_the_nearest_name(runs: Path) -> None:
    with pytest.raises(UserError, match=r"no runs 'sythetic' in runs; did you mean 'synthetic'"):
        select_runs(["sythetic"])
    with pytest.raises(UserError, match=r"no runs 'runs/\*/nothing\*'"):
        select_runs(["synthetic", "runs/*/nothing*"])
    with pytest.raises(UserError, match="normlab sweep"):
        select_runs(["synthetic"], runs_dir="elsewhere")
