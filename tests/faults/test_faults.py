"""Every fault of the table, done for real: a recoverable one leaves no trace in the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fault_all import FAULTS
from fault_lab import Lab
from fault_record import Fault, Skipped


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    yield Lab(tmp_path_factory.mktemp("faults"))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.theme}: {fault.name}")
def test_fault(lab: Lab, fault: Fault) -> None:
    try:
        observed = fault.inject(lab)
    except Skipped as reason:
        pytest.skip(str(reason))
    assert fault.mistakes(observed) == [], observed
