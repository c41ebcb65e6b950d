"""docs/detectors.md: the script that fills its tables measures what it says, and the tables are those it makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "calibrate_detectors.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("calibrate_detectors", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_detector_has_its_row_in_both_tables(script: ModuleType) -> None:
    page = script.PAGE.read_text()
    for name, detectors in (("loss", script.ON_LOSS), ("norm", script.ON_NORM)):
        lines = page.partition(f"<!-- {name} -->")[2].partition(f"<!-- end {name} -->")[0].strip().splitlines()
        assert [line.split(" | ")[0].lstrip("| ") for line in lines[2:]] == list(detectors)
        assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_only_what_stands_between_the_marks_is_replaced(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "measure", lambda columns, detectors: {"a column": dict.fromkeys(detectors, 0.25)})
    page = "before\n<!-- loss -->\nold\n<!-- end loss -->\nbetween\n<!-- norm --><!-- end norm -->\nafter\n"
    filled = script.fill(page)
    assert "old" not in filled and filled.count("| 0.25 |") == len(script.ON_LOSS) + len(script.ON_NORM)
    assert [word for word in ("before", "between", "after") if word in filled] == ["before", "between", "after"]
    assert script.fill(filled) == filled


def test_detectors_on_one_plain_case(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "RUNS", 4)
    rng = np.random.default_rng
    for detect in script.ON_LOSS.values():
        assert script.spike(5.0, 1300, 1400)(rng(1), detect) == 1.0
        assert script.clean(script.falling_loss, script.gaussian)(rng(2), detect) == 0.0
    assert script.spike(1.0, 1300, 1400, after=3.0)(rng(3), script.OLMO_CORE) == 0.0
    assert script.spike(1.0, 1300, 1400, after=3.0)(rng(3), script.local_median(6.0)) == 1.0


@pytest.mark.parametrize("name", ["gaussian", "heavy", "loss", "log_grad_norm"])
def test_noise_is_centred_and_of_its_scale(script: ModuleType, name: str) -> None:
    noise = getattr(script, name, None) or script.recorded(name)
    drawn = noise(np.random.default_rng(0), 5000)
    assert abs(np.median(drawn)) < 0.1
    assert 0.6 < 1.4826 * np.median(np.abs(drawn)) < 1.1  # t4 has less in the middle and more in its tails


@pytest.mark.slow
def test_the_committed_tables_are_those_that_the_script_makes(script: ModuleType) -> None:
    page = script.PAGE.read_text()
    assert script.fill(page) == page
