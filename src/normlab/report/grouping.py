"""Rows under the headings that an experiment's ``groups`` declare."""

from __future__ import annotations

from collections.abc import Sequence

from normlab.experiment.schema import Experiment
from normlab.report.row import Row
from normlab.report.runs import as_setting


def in_groups(rows: Sequence[Row], experiment: Experiment) -> list[tuple[str, Row]]:
    """Each row with its heading, in the order of the groups and of their values; those of no group last, under ""."""
    if not experiment.groups:
        return [("", row) for row in rows]
    listed = [(heading, as_setting(value)) for heading, values in experiment.groups.items() for value in values]
    places = {value: (place, heading) for place, (heading, value) in reversed(list(enumerate(listed)))}
    found = [(*places.get(as_setting(row.cell.get(experiment.grouped_factor)), (len(listed), "")), row) for row in rows]
    return [(heading, row) for _, heading, row in sorted(found, key=lambda item: item[0])]
