"""No key and no token gets from the environment or from a mistake into a file, a log or wandb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import normlab
from normlab.cli import main
from normlab.config.identity import run_dir
from normlab.errors import UserError
from normlab.secrecy import find_secret, redact

KEY = "0123456789abcdef0123456789abcdef01234567"
HF = "hf_" + "AbCdEfGh" * 4


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("MY_SERVICE_PASSWORD", "correct horse")
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    monkeypatch.setenv("KEYBOARD", "us-intl-altgr")
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/me/token")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("wandb.project=${oc.env:WANDB_API_KEY}", "wandb.project holds the value of $WANDB_API_KEY"),
        ("runs_dir=/tmp/${oc.env:WANDB_API_KEY}/runs", "runs_dir holds the value of $WANDB_API_KEY"),
        (f"wandb.tags=[a,x{KEY}]", "wandb.tags holds the value of $WANDB_API_KEY"),
        (f"data.hub_revision={HF}", "data.hub_revision holds a Hugging Face token"),
        ("wandb.entity='https://me:secret@example.org'", "wandb.entity holds a login in a URL"),
    ],
)
@pytest.mark.parametrize("command", ["train", "prepare"])
def test_a_configuration_with_a_secret_is_refused_without_repeating_it(
    command: str, override: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([command, override]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert KEY not in error and HF not in error and "me:secret" not in error
    assert list(tmp_path.iterdir()) == []


def test_other_variables_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert normlab.compose(["runs_dir=${oc.env:SCRATCH}/runs"]).runs_dir == "/scratch/me/runs"


def test_what_is_hidden_and_what_is_not() -> None:
    assert redact(f"401 for https://me:pw@host/x with {KEY} and {HF}") == "401 for https://***@host/x with *** and ***"
    plain = "abc us-intl-altgr /home/me/token git@host http://host/a@b"
    assert redact(plain) == plain
    assert find_secret({"a": {"correct horse": 1}}) == ("a.correct horse", "the value of $MY_SERVICE_PASSWORD")
    assert find_secret({"a": [1, None, {"b": "abc"}]}) is None


def test_nothing_that_a_run_leaves_behind_holds_a_secret(
    tiny: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the environment, and not of an error that repeats what it was given."""
    monkeypatch.setenv("HF_TOKEN", HF)
    config = normlab.compose(tiny("train.steps=4"))
    normlab.train(config)
    failing = normlab.compose(tiny("train.steps=4", "seed=1"))

    def refused(*args: object) -> None:
        raise RuntimeError(f"401 Client Error: Bearer {HF} for url https://u:p4ssw0rd@hub/api, key {KEY}")

    monkeypatch.setattr("normlab.training.run.prepare", refused)
    with pytest.raises(RuntimeError):
        normlab.train(failing)
    assert "401 Client Error" in json.loads((run_dir(failing) / "summary.json").read_text())["error"]
    for path in Path(config.runs_dir).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in (KEY, HF, "correct horse", "p4ssw0rd"):
                assert secret.encode() not in content, path


def test_an_error_line_hides_what_it_was_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(words: object) -> int:
        raise UserError(f"no answer from https://me:{KEY}@mirror")

    monkeypatch.setattr("normlab.cli.prepare.run", refused)
    assert main(["prepare"]) == 2
    assert capsys.readouterr().err == "normlab: no answer from https://***@mirror\n"


@pytest.mark.slow
def test_what_wandb_writes_down_by_itself_holds_no_secret(
    tiny: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine, the command, and the address of the repository that it is started in."""
    monkeypatch.setenv("HF_TOKEN", HF)
    login = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
    for words in (
        ["init", "--quiet"],
        ["-c", "user.name=me", "-c", "user.email=me@here", "commit", "--quiet", "--allow-empty", "-m", "first"],
        ["remote", "add", "origin", f"https://{login}@github.com/me/mine.git"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    overrides = [word for word in tiny("train.steps=4") if not word.startswith("wandb")]
    environment = {**os.environ, "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "normlab", "train", *overrides, "wandb=offline"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in written)
    for path in written:
        content = path.read_bytes()
        for secret in (KEY, HF, "correct horse", login):
            assert secret.encode() not in content, path
