"""The command: where the page goes, what the terminal says, runs in every state."""

from __future__ import annotations

import fcntl
import io
import json
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_runs import write_run

from normlab.cli.compare import run
from normlab.compare.command import compare_runs
from normlab.compare.run import read_run
from normlab.compare.select import select_runs
from normlab.compare.terminal import complaints, print_summary, sparkline
from normlab.compare.treatments import Treatment, compared_factors, group_runs
from normlab.errors import UserError


def _treatments(folder: Path) -> list[Treatment]:
    frame = select_runs([str(folder)])
    return group_runs([read_run(row) for row in frame.to_dict("records")], compared_factors(frame))


def _printed(folder: Path) -> str:
    console = Console(width=150, record=True, file=io.StringIO())
    print_summary(_treatments(folder), console)
    return console.export_text()


def test_a_row_per_treatment(tmp_path: Path) -> None:
    for seed, loss in enumerate((2.0, 2.2)):
        write_run(tmp_path, "pre", seed=seed, val_loss=loss, spikes=(10, 30))
    write_run(tmp_path, "post", val_loss=None, status="diverged", outcome="nan", diverged_step=20)
    lines = _printed(tmp_path).splitlines()
    pre = next(line for line in lines if line.startswith("Pre-Norm"))
    assert "2 ok" in pre and "2.1000 ± 0.1414" in pre
    assert pre.split()[-4] == "4", "spikes of both seeds"
    assert "1 nan" in next(line for line in lines if line.startswith("Post-Norm "))


def test_dead_gradients_and_the_last_layer(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "pre")
    probe = {"step": 60, "grad_norm": [1e-9, 1e-9, 1e-9, 1.0], "ffn.rms_sum": [1.0, 2.0, 3.0, 44.0]}
    with (folder / "probes.jsonl").open("a") as file:
        file.write(json.dumps(probe) + "\n")
    assert _printed(tmp_path).splitlines()[1].split()[-2:] == ["75%", "44"]


def test_a_line_for_every_run_that_is_not_ok(tmp_path: Path) -> None:
    why = {"text": "The gradient died below layer 5.", "quantity": "grad_norm", "step": 12, "layer": 5}
    write_run(tmp_path, "pre")
    write_run(
        tmp_path, "post", seed=0, val_loss=4.6, outcome="stagnated", summary={"diagnosis": why, "first_bad_step": 9}
    )
    write_run(tmp_path, "post", seed=1, val_loss=4.6, outcome="stagnated")
    write_run(tmp_path, "post", seed=2, val_loss=None, status="diverged", outcome="nan", diverged_step=20)
    stale = {"error": "of an earlier attempt"}
    write_run(tmp_path, "post", seed=4, status="interrupted", outcome=None, val_loss=None, summary=stale)
    write_run(tmp_path, "post", seed=3, status="failed", outcome=None, summary={"error": "out of\nmemory"})
    lines = [line.plain for line in complaints(_treatments(tmp_path))]
    assert lines == [
        "Post-Norm, seed 0: stagnated from step 9 on in layer 5. The gradient died below layer 5.",
        "Post-Norm, seed 1: stagnated. The final loss, 4.60 nats, is that of token frequencies alone, 4.60.",
        "Post-Norm, seed 2: nan from step 20 on. The run ended at step 20; its summary says no more.",
        "Post-Norm, seed 3: failed. out of memory",
        "Post-Norm, seed 4: interrupted at step 60 of 60. It was cut and can go on: the same command once more.",
    ]


def test_unfinished_half_written_and_damaged_runs_are_shown_as_that(tmp_path: Path) -> None:
    going = write_run(tmp_path, "pre", seed=0, status="running", outcome=None, val_loss=None)
    write_run(tmp_path, "pre", seed=1, status="running", outcome=None, val_loss=None)
    begun = write_run(tmp_path, "pre", seed=2)
    for name in ("summary.json", "metrics.jsonl", "probes.jsonl", "env.json"):
        (begun / name).unlink()
    cut = write_run(tmp_path, "pre", seed=3)
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61, "lo')
    (write_run(tmp_path, "pre", seed=4) / "summary.json").write_text('{"status": "do')
    (write_run(tmp_path, "pre", seed=5) / "config.yaml").write_text("no_such_key: 1")
    with (going / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.write("1\n")
        lock.flush()
        page = compare_runs([str(tmp_path)], tmp_path / "page.html").read_text()
        found = sorted((run.name[-1], run.verdict) for treatment in _treatments(tmp_path) for run in treatment.runs)
    assert found == [
        ("0", "running"), ("1", "interrupted"), ("2", "interrupted"), ("3", "ok"), ("4", "damaged"), ("5", "damaged"),
    ]  # fmt: skip
    assert '"verdict":"running"' in page


def test_markup_in_names_is_printed_as_it_is(tmp_path: Path) -> None:
    write_run(tmp_path, "[red]pre", summary={"error": "[bold]no"}, status="failed", outcome=None)
    printed = _printed(tmp_path)
    assert printed.splitlines()[1].startswith("[red]pre ") and "[bold]no" in printed


def test_the_page_lies_beside_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs"), "pre")
    write_run(Path("runs"), "pre", experiment="other")
    assert compare_runs(["synthetic"]) == Path("runs/synthetic/compare.html")
    assert compare_runs(["synthetic", "other"]) == Path("runs/compare.html")
    assert compare_runs(["runs"], "new/folder/x.html") == Path("new/folder/x.html")
    assert "written to new/folder/x.html" in capsys.readouterr().out
    with pytest.raises(UserError, match="name a file"):
        compare_runs(["runs"], "new")


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("elsewhere"), "pre")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    assert run(["synthetic", "--runs-dir", "elsewhere", "--open"]) == 0
    assert opened == [Path("elsewhere/synthetic/compare.html").resolve().as_uri()]
    assert "no browser was found" in capsys.readouterr().out
    for words, message in ([], "RUNS is missing"), (["synthetic", "--ouy", "x"], "--out"):
        with pytest.raises(UserError, match=message):
            run(words)


def test_sparklines_share_their_levels() -> None:
    assert sparkline([5.0, 1.0], 1.0, 5.0)[0] == "█" and sparkline([5.0, 1.0], 1.0, 5.0)[-1] == "▁"
    assert sparkline([99.0] * 5, 1.0, 5.0) == "█████" and len(sparkline([1.0] * 500, 1.0, 5.0)) == 16
    assert sparkline([], 0.0, 1.0) == ""
    assert sparkline([1.0], 1.0, 1.0) == "▁"


def test_no_torch_is_needed() -> None:
    program = "import sys, normlab.compare.command, normlab.compare.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
