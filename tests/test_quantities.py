"""Numbers in words, and words that are numbers."""

from __future__ import annotations

import pytest

from normlab.experiment.schema import PaperColumn
from normlab.quantities import as_number, count, duration
from normlab.report.grid import _same


def test_in_words():
    assert [count(n) for n in (7, 1234, 1.13e6, 2e11)] == ["7", "1.23 k", "1.13 M", "200 B"]
    assert count(1_234_567, 4, "") == "1.235M"
    assert [duration(s) for s in (45, 200, 7500)] == ["45 s", "3 min 20 s", "2 h 5 min"]


@pytest.mark.parametrize(
    ("value", "number"), [("1e-3", 0.001), (2, 2.0), ("megatron", None), (None, None), (True, None)]
)
def test_a_setting_as_a_number(value, number):
    assert as_number(value) == number


def test_a_published_number_may_be_a_word_to_yaml():
    values = {"post": "3e-4", "pre": 7.65e-3, "hybrid": "diverges", "none": "nan"}
    assert PaperColumn(source="s", metric="largest LR", values=values).values == values | {"post": 3e-4}


@pytest.mark.parametrize(("found", "wanted", "same"), [
    (0.001, "1e-3", True), (True, 1, True), (False, 1, False), (True, "true", True), (float("nan"), None, True),
    ("normal(std=1/d)", "normal( std = 1/d )", True), ("pre", "post", False),
])  # fmt: skip
def test_a_run_s_setting_against_a_grid_s(found, wanted, same):
    assert _same(found, wanted) == same
