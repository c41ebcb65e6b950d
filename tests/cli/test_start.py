"""What the program does before anything runs: help, version, what it imports, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import normlab
import normlab.training as train_package
from normlab.cli import COMMANDS, main
from normlab.errors import UserError

HEAVY = ("torch", "hydra", "pandas", "matplotlib", "wandb", "pydantic", "rich")


@pytest.mark.parametrize("words", [["--help"], ["--version"], *[[command, "--help"] for command in COMMANDS]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\nfrom normlab.cli import main\n"
        f"try:\n    code = main({words!r})\nexcept SystemExit as end:\n    code = end.code\n"
        f"sys.exit(code or ','.join(name for name in {HEAVY!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "normlab" in done.stdout


def test_help_is_one_screen_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 120
    assert all(f"\n  {command}" in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_help_are_about_the_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    examples = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"  normlab {command}")]
    assert 3 <= len(examples) <= 6


def test_the_examples_of_sweep_have_cells_and_keep_quickstart_to_itself(capsys: pytest.CaptureFixture[str]) -> None:
    from normlab.experiment import load_experiment
    from normlab.experiment.grid import cells

    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    examples = [line.split()[3:] for line in capsys.readouterr().out.splitlines() if " sweep quickstart" in line]
    for words in examples:
        overrides = [word for word in words if "=" in word]
        found = {cell.config.experiment for cell in cells(load_experiment("quickstart"), overrides)}
        assert found == ({"smoke"} if overrides else {"quickstart"})
    assert len(examples) == 3 and any("--report" in words for words in examples)


def test_help_says_what_is_so(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "prepare"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    text = capsys.readouterr().out
    assert "=?" not in text, "no question but an unknown name"
    assert "documentation" not in text, "data=stdlib is source alone"


def test_the_package_offers_its_four_functions() -> None:
    assert normlab.compose([]).seed == 0 and normlab.__version__
    assert callable(normlab.train) and callable(normlab.build_model) and callable(normlab.load_runs)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        normlab.trian  # noqa: B018


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Replaces training by a function that notes its configuration and returns ``trained['summary']``."""
    noted: dict[str, Any] = {"summary": {"status": "done"}}

    def train(config: Any) -> dict[str, Any]:
        noted["config"] = config
        if isinstance(noted["summary"], BaseException):
            raise noted["summary"]
        return dict(noted["summary"])

    monkeypatch.setattr(train_package, "train", train)
    monkeypatch.chdir(tmp_path)
    return noted


@pytest.mark.parametrize(
    ("summary", "code"),
    [
        ({"status": "done"}, 0),
        ({"status": "diverged"}, 0),
        ({"status": "interrupted", "signal": 2}, 130),
        ({"status": "interrupted", "signal": 15}, 143),
        (UserError("the disk is full"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_of_train(trained: dict[str, Any], summary: Any, code: int, capsys: Any) -> None:
    trained["summary"] = summary
    assert main(["train", "placement=hybrid", "seed=3", "scale=smoke"]) == code
    assert trained["config"].placement.name == "hybrid" and trained["config"].seed == 3
    assert capsys.readouterr().err.count("\n") == (1 if isinstance(summary, BaseException) else 0)
    assert list(Path().iterdir()) == [], "Hydra leaves nothing behind"


def test_a_bug_keeps_its_traceback_but_no_secret(
    trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIRROR_TOKEN", "correct-horse-battery")
    trained["summary"] = ZeroDivisionError("a bug at https://mirror/?key=correct-horse-battery")
    assert main(["train"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last):\n" in printed and "in train\n" in printed
    assert printed.endswith("\nZeroDivisionError: a bug at https://mirror/?key=***\n") and "horse" not in printed


@pytest.mark.parametrize(
    ("words", "code"), [(["train"], 141), (["sweep", "x=1"], 141), (["placements"], 0), (["status"], 0), (["help"], 0)]
)
def test_a_closed_pipe_ends_a_listing_well_and_work_badly(words: list[str], code: int) -> None:
    program = (
        "import sys, normlab.cli as cli\n"
        "def closed(words): raise BrokenPipeError\n"
        f"cli._dispatch = closed\nsys.exit(cli.main({words!r}))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60).returncode == code


def test_placements_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["placements"]) == 0
    assert "arXiv 2503.04598" in capsys.readouterr().out
    assert main(["placements", "show", "hybrid_star", "--layers", "3"]) == 0
    shown = capsys.readouterr().out
    assert "1 attn  pre: n,  q: n" in shown and "3 attn  q: n" in shown and "megatron" in shown
