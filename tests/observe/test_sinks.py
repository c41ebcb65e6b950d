"""No row is lost, doubled or half there, whatever the moment of a cut."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.errors import DiskError, UserError
from normlab.observe.sinks import DiskSink, JsonlSink, holds, read_rows, rewind


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


@given(marked=st.integers(0, 8), logged=st.integers(0, 8), cut=st.integers(0, 60))
def test_cut_at_any_byte_behind_a_mark_then_rewound_is_the_uninterrupted_file(
    tmp_path_factory: pytest.TempPathFactory, marked: int, logged: int, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 9)]
    sink = DiskSink(folder)
    sink.log(rows[:marked])
    sink.probe({"step": 0})
    marks = sink.sync()
    sink.log(rows[marked : marked + logged])
    sink.finish({}, 0)
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[: max(marks["metrics.jsonl"]["bytes"], path.stat().st_size - cut)])
    assert holds(folder, marks)
    rewind(folder, marks)
    assert read_rows(path) == rows[:marked]
    sink = DiskSink(folder)
    sink.log(rows[marked:])
    assert sink.sync()["metrics.jsonl"]["bytes"] == path.stat().st_size
    sink.finish({}, 0)
    assert read_rows(path) == rows and read_rows(folder / "probes.jsonl") == [{"step": 0}]
    assert sorted(file.name for file in folder.iterdir()) == ["metrics.jsonl", "probes.jsonl"]


def test_any_other_byte_before_a_mark_is_noticed(tmp_path: Path) -> None:
    sink = DiskSink(tmp_path)
    sink.log([{"step": 1, "loss": 0.125}])
    marks = sink.sync()
    sink.log([{"step": 2, "loss": 0.25}])
    sink.finish({}, 0)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    assert holds(tmp_path, marks)
    for at in range(marks["metrics.jsonl"]["bytes"]):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not holds(tmp_path, marks)
        path.write_bytes(whole[:at])
        assert not holds(tmp_path, marks)
    path.unlink()
    assert not holds(tmp_path, marks)


def test_without_marks_a_run_begins_anew(tmp_path: Path) -> None:
    sink = DiskSink(tmp_path)
    sink.log([{"step": 1}])
    sink.finish({}, 0)
    rewind(tmp_path, {})
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""
    (tmp_path / "metrics.jsonl").unlink()
    rewind(tmp_path, {})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115  (the sink closes it)
    monkeypatch.setattr(sink, "_file", full)
    with pytest.raises(DiskError, match=r"the disk is full: cannot write .*metrics\.jsonl; free some space"):
        sink.log([{"step": 1}])


def test_a_file_that_does_not_exist_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.jsonl") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b"\x00\x00\x00", b'{"step": 3\n', b"\xff\n"])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + torn)
    assert read_rows(path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("damaged", [b'{"step": 2', b"[2]", b'{"loss": 1.0}', b""])
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    before = b'{"step": 1}\n' + damaged + b'\n{"step": 3}\n'
    path.write_bytes(before)
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged; delete .* and the run starts again"):
        read_rows(path)
    assert path.read_bytes() == before
