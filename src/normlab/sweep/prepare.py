"""The data of a sweep, prepared before its runs start: side by side they would all do the same work."""

from __future__ import annotations

from collections.abc import Sequence

from normlab.config.identity import run_dir, treatment_hash
from normlab.config.schema import Config
from normlab.results import FINISHED
from normlab.sweep.state import read_state


def prepare_data(configs: Sequence[Config]) -> None:
    """Prepare each distinct data set of the runs that are still to do, once."""
    from normlab.data import prepare

    to_do = [config for config in configs if read_state(run_dir(config), treatment_hash(config)).status not in FINISHED]
    for data in {config.data.model_dump_json(): config.data for config in to_do}.values():
        prepare(data)
