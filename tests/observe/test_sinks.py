"""No row is lost, doubled or half there, whatever the moment of a cut."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.errors import UserError
from normlab.observe.sinks import DiskSink, JsonlSink, read_rows, truncate_after


def test_rows_come_back_to_the_bit(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": math.pi / step, "lr": 0.1 + 0.2, "clipped": step % 2} for step in (1, 2, 3)]
    sink = JsonlSink(tmp_path / "run" / "metrics.jsonl")
    sink.log(rows[:2])
    assert read_rows(tmp_path / "run" / "metrics.jsonl") == rows[:2]  # without waiting for the end
    sink.log(rows[2:])
    sink.close()
    assert read_rows(tmp_path / "run" / "metrics.jsonl") == rows
    assert '"lr": 0.30000000000000004' in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_non_finite_values_are_null_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    JsonlSink(path).log([{"step": 1, "a": math.nan, "b": [1.0, -math.inf], "c": {"q": math.inf}}])
    assert json.loads(path.read_text()) == {"step": 1, "a": None, "b": [1.0, None], "c": {"q": None}}


def test_disk_sink_writes_both_files(tmp_path: Path) -> None:
    sink = DiskSink(tmp_path)
    sink.log([{"step": 1, "loss": 2.0}])
    sink.probe({"step": 1, "grad_norm": [1.0]})
    sink.finish({}, 0)
    assert read_rows(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.0}]
    assert read_rows(tmp_path / "probes.jsonl") == [{"step": 1, "grad_norm": [1.0]}]


@given(cut=st.integers(0, 400), keep=st.integers(-1, 9))
def test_cut_at_any_byte_then_resumed_is_the_uninterrupted_file(
    tmp_path_factory: pytest.TempPathFactory, cut: int, keep: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 9)]
    sink = JsonlSink(path)
    sink.log(rows)
    sink.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    truncate_after(path, keep)
    kept = read_rows(path)
    assert kept == [row for row in rows[: len(kept)] if row["step"] <= keep]
    sink = JsonlSink(path)
    sink.log(rows[len(kept) :])
    sink.close()
    assert path.read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == ["metrics.jsonl"]


def test_validation_of_the_kept_step_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 0, "val_loss": 9.0}, {"step": 5, "loss": 1.0}, {"step": 5, "val_loss": 2.0}, {"step": 6}]
    JsonlSink(path).log(rows)
    truncate_after(path, 5)
    assert read_rows(path) == rows[:3]


def test_a_file_that_does_not_exist_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.jsonl") == []
    truncate_after(tmp_path / "metrics.jsonl", 5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b"\x00\x00\x00", b'{"step": 3\n', b"\xff\n"])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + torn)
    assert read_rows(path) == [{"step": 1}, {"step": 2}]
    truncate_after(path, 2)
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize("damaged", [b'{"step": 2', b"[2]", b'{"loss": 1.0}', b""])
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    before = b'{"step": 1}\n' + damaged + b'\n{"step": 3}\n'
    path.write_bytes(before)
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_rows(path)
    with pytest.raises(UserError, match="line 2"):
        truncate_after(path, 3)
    assert path.read_bytes() == before
