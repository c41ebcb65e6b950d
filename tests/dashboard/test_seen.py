"""What a dashboard takes from run folders, without wandb."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "report"))

from synthetic_runs import write_run

from normlab.dashboard.seen import look_at


def test_a_run_that_is_done_stands_for_its_treatment(tmp_path: Path) -> None:
    lost = write_run(tmp_path, seed=0, status="diverged", outcome="nan", val_loss=None, diverged_step=30)
    write_run(tmp_path, seed=1)
    (lost / "probes.jsonl").write_text("")
    seen = look_at("synthetic", tmp_path)
    assert len(seen.colours) == 1 and "ffn.rms_out" in seen.quantities and "final/val_loss" in seen.summary


@pytest.mark.parametrize(("nonfinite", "spiked"), [(1, set()), (0, {"loss"})])
def test_an_event_that_is_not_finite_has_no_marker(tmp_path: Path, nonfinite: int, spiked: set[str]) -> None:
    series = {"events": 1, "nonfinite": nonfinite, "steps_of_events": []}
    write_run(tmp_path, summary={"spikes": {"loss": series, "grad_norm": series | {"events": 0, "nonfinite": 0}}})
    assert look_at("synthetic", tmp_path).spiked == spiked
