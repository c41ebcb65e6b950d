"""Whatever byte of a finished run is not as it was written, the run does not pass for finished."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import normlab
from normlab.config.identity import run_dir
from normlab.errors import UserError
from normlab.observe.sinks import read_rows
from normlab.report.runs import load_metrics, load_probes, load_runs
from normlab.seal import broken_seal, seal
from normlab.sweep.state import read_state

_NAMES = ("config.yaml", "env.json", "metrics.jsonl", "probes.jsonl", "summary.json")


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    runs = tmp_path_factory.mktemp("sealed") / "runs"
    overrides = ["scale=smoke", "data=files", f"data.paths=[{corpus}]", "data.tokenizer.kind=bytes", "wandb=disabled",
                 "train.steps=4", "train.compile=off", "train.threads=1", f"runs_dir={runs}"]  # fmt: skip
    config = normlab.compose(overrides)
    normlab.train(config)
    return run_dir(config)


def test_a_finished_run_is_sealed_and_coreutils_agree(finished: Path) -> None:
    assert broken_seal(finished) is None
    sums = finished / "SHA256SUMS"
    assert [line.split()[1] for line in sums.read_text().splitlines()] == list(_NAMES)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", sums.name], cwd=finished, check=True, capture_output=True)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from((*_NAMES, "SHA256SUMS")), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7),
       short=st.booleans())  # fmt: skip
def test_any_flipped_bit_and_any_cut_is_noticed_and_nothing_that_reads_runs_falls_over(
    finished: Path, name: str, where: float, bit: int, short: bool
) -> None:
    path = finished / name
    whole = path.read_bytes()
    at = int(where * len(whole))
    path.write_bytes(whole[:at] if short else whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
    try:
        if not (name == "SHA256SUMS" and short and at % 1 == 0):  # cut between two lines it sums fewer files
            assert broken_seal(finished) is not None
            assert read_state(finished).status not in ("done", "diverged")
            assert load_runs(finished.parents[2])["status"].tolist() == ["corrupt"]
        read_state(finished)
        load_metrics(finished)
        load_probes(finished)
        try:
            read_rows(finished / "metrics.jsonl")
        except UserError as error:
            assert "delete" in str(error)
    finally:
        path.write_bytes(whole)
    assert broken_seal(finished) is None


def test_a_file_that_is_gone_is_named(finished: Path) -> None:
    path = finished / "probes.jsonl"
    whole = path.read_bytes()
    path.unlink()
    assert broken_seal(finished) == "probes.jsonl"
    path.write_bytes(whole)


def test_the_sums_are_written_before_the_summary_says_that_the_run_is_finished(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "summary.json").write_text("running")
    seal(tmp_path, "done")
    assert broken_seal(tmp_path) == "summary.json"  # killed here, nobody asks: the run is not finished
    (tmp_path / "summary.json").write_text("done")
    assert broken_seal(tmp_path) is None


def test_what_was_never_sealed_is_not_broken(tmp_path: Path) -> None:
    assert broken_seal(tmp_path) is None


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "config.yaml"])
def test_a_damaged_run_is_mended_to_the_same_bytes(
    tiny: Callable[..., list[str]], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = normlab.compose(tiny("train.steps=6", "checkpoint.every=3"))
    normlab.train(config)
    folder = run_dir(config)
    whole = {each: (folder / each).read_bytes() for each in ("config.yaml", "metrics.jsonl", "probes.jsonl")}
    text = (folder / name).read_text()
    (folder / name).write_text(text.replace("4", "5", 1))
    normlab.train(config)
    assert f"warning: {folder / name} is damaged" in capsys.readouterr().out
    assert {each: (folder / each).read_bytes() for each in whole} == whole
    assert broken_seal(folder) is None and read_state(folder).status == "done"


@pytest.mark.parametrize(
    "line", [b"3", b"[1]", b"null", b'{"step": "x"}', b'{"step": null}', b'{"step": [1]}', b"\xff\xfe", b"{}"]
)
def test_no_line_of_metrics_stops_who_looks_at_the_runs(tmp_path: Path, line: bytes) -> None:
    folder = tmp_path / "seed0"
    folder.mkdir()
    (folder / "metrics.jsonl").write_bytes(line + b'\n{"step": 2, "loss": 1.5}\n')
    state = read_state(folder)
    assert (state.step, state.loss, state.status) == (2, 1.5, "interrupted")
    assert load_metrics(folder)["step"].tolist() in ([2], [])  # what is no text is left out as a whole
