"""Wherever a run is killed, the next start finds nothing half written and comes to the same bytes."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable

import pytest
from crash_points import run_until, server

import normlab
from normlab.config.identity import run_dir
from normlab.seal import broken_seal

SHORT = ("train.steps=6", "checkpoint.every=2", "observe.flush_every=2", "eval.every=3", "optim.warmup_steps=1",
         "observe.probe_at=[]")  # fmt: skip


def outcome(overrides: list[str]) -> dict[str, bytes]:
    folder = run_dir(normlab.compose(overrides))
    assert broken_seal(folder) is None and (folder / "SHA256SUMS").exists()
    assert not list(folder.rglob("*.torn*")), "nothing is left lying about"
    assert len(list((folder / "checkpoints").glob("*.json"))) == 2, "the last checkpoint.keep"
    return {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "probes.jsonl")}


def check(tiny: Callable[..., list[str]], first: int, step: int) -> int:
    """Kill before every ``step``-th operation, then start again; returns how often."""
    context = server()
    whole = tiny("experiment=whole", *SHORT)
    assert run_until(context, whole, None) == 0
    expected = outcome(whole)
    kills = 0
    for point in itertools.count(first, step):
        overrides = tiny(f"experiment=cut{point}", *SHORT)
        if (code := run_until(context, overrides, point)) == 0:  # it has no more
            return kills
        assert code == -signal.SIGKILL
        kills += 1
        assert run_until(context, overrides, None) == 0, point
        assert outcome(overrides) == expected, f"killed before operation {point}"
    return kills


def test_killed_at_some_operations_on_files(tiny: Callable[..., list[str]]) -> None:
    assert check(tiny, first=20, step=45) >= 2


@pytest.mark.slow
def test_killed_at_every_operation_on_files(tiny: Callable[..., list[str]]) -> None:
    assert check(tiny, first=1, step=1) > 60
