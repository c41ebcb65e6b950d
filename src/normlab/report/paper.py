"""Published numbers beside ours, marked as theirs, and whether they point the same way."""

from __future__ import annotations

from collections.abc import Callable

from normlab.experiment.schema import PaperColumn, Value
from normlab.report.comparison import Comparison
from normlab.report.labels import METRICS, factor_name
from normlab.report.row import Row
from normlab.report.runs import as_setting, as_text
from normlab.report.table import Cell, Column
from normlab.results import FINISHED, LOST

AGREES, DISAGREES, UNDECIDED, EQUAL = "agrees", "disagrees", "undecided", "equal there"
NOT_HERE = "not here"  # published as diverging, and no run of ours, at any value tried, was lost or stagnated
_FAILED = (*LOST, "diverged", "stagnated")  # outcomes that are what a publication calls divergence
Judge = Callable[[PaperColumn, Row], str]


def publications(comparison: Comparison) -> list[tuple[int, PaperColumn]]:
    """The experiment's publications with their numbers, without those that have a value for none of the rows."""
    rows = comparison.rows
    known = [paper for paper in comparison.experiment.paper if any(published(paper, row) is not None for row in rows)]
    return list(enumerate(known, start=1))


def paper_columns(comparison: Comparison) -> list[tuple[Column, Callable[[Row], Cell]]]:
    """Per publication its number; of a loss or a perplexity also whether ours lies on the same side of the baseline."""
    made: list[tuple[Column, Callable[[Row], Cell]]] = []
    for index, paper in publications(comparison):
        made.append(published_column(index, paper))
        if not higher_is_better(paper):
            made.append(direction_column(index, paper, agreement))
    return made


def published_column(index: int, paper: PaperColumn) -> tuple[Column, Callable[[Row], Cell]]:
    column = Column(paper.metric, (f"published_{index}",), f"Published [{index}]")
    return column, lambda row: Cell(published_text(paper, row), (published(paper, row),))


def direction_column(
    index: int, paper: PaperColumn, judge: Judge, everywhere: bool = False
) -> tuple[Column, Callable[[Row], Cell]]:
    """``everywhere``: in print too, where ``summary`` says the same in a line."""

    def cell(row: Row) -> Cell:
        said = judge(paper, row)
        return Cell(said or "–", (said or None,))

    return Column("direction", (f"published_{index}_direction",), f"Published [{index}]", everywhere), cell


def published(paper: PaperColumn, row: Row) -> Value:
    """The publication's value for a row: by its label as printed, or by its factors' values (``hybrid``)."""
    plain = ", ".join(as_text(value) for factor, value in row.cell.items() if factor not in row.constant)
    return paper.values.get(row.label, paper.values.get(plain))


def published_text(paper: PaperColumn, row: Row) -> str:
    """Its value as printed there, with as many decimals as the longest of its numbers; a dash where it has none."""
    value = published(paper, row)
    if not _is_number(value):
        return "–" if value is None else as_text(value)
    if "LR" in paper.metric:  # of several magnitudes: decimals of one would be noise in another
        return as_text(value)
    decimals = [len(as_text(number).partition(".")[2]) for number in paper.values.values() if _is_number(number)]
    return f"{value:.{max(decimals)}f}"


def higher_is_better(paper: PaperColumn) -> bool:
    """Whether the metric is one that a loss does not judge: an accuracy."""
    return "accuracy" in paper.metric.lower() or "↑" in paper.metric


def agreement(paper: PaperColumn, row: Row) -> str:
    """What our final loss says of a published loss or perplexity: ``agrees``, ``disagrees``, ``undecided`` (ours is not
    distinguishable), ``equal there`` (the publication gives the row the baseline's number), or nothing to compare; of
    a published ``diverges``, what became of our runs."""
    if higher_is_better(paper):
        return ""
    if isinstance(published(paper, row), str):  # "diverges"
        return _divergence(row)
    return same_direction(paper, row, _is_worse(row), row.difference is None or row.distinguishable)


def same_direction(paper: PaperColumn, row: Row, ours_is_higher: bool | None, distinguishable: bool) -> str:
    """``agreement`` by any metric that has the sense of the published one. None: ours says nothing."""
    theirs = published(paper, row)
    reference = published(paper, row.baseline) if row.baseline else None
    if not _is_number(theirs) or not _is_number(reference) or ours_is_higher is None:
        return ""
    gap = float(theirs) - float(reference)  # type: ignore[arg-type]
    if gap == 0:
        return EQUAL
    if not distinguishable:
        return UNDECIDED
    return AGREES if ours_is_higher == (gap > 0) else DISAGREES


def _divergence(row: Row) -> str:
    """``agrees`` where every seed was lost or stagnated. Never ``disagrees``: ours is at the LR that suits it best."""
    kinds = row.outcomes.values()
    if not kinds:
        return ""
    failed = sum(kind in _FAILED for kind in kinds)
    if not failed:
        return _elsewhere(row)
    return AGREES if failed == len(kinds) else f"in {failed} of {len(kinds)} seeds"


def _elsewhere(row: Row) -> str:
    """Of a row that lives at its chosen value: whether a run of its sweep did not."""
    ended = row.sweep[row.sweep["status"].isin(FINISHED)]
    lives = ended.index.isin(row.usable_of(ended).index) & ~ended["outcome"].isin(_FAILED)
    if lives.all():
        return NOT_HERE
    others = ended[~lives][row.tune].map(as_setting).ne(as_setting(row.tuned)) if row.tune else None
    if others is None or not others.any():
        return "on a tuning seed alone"
    return f"only at another {factor_name(str(row.tune))}"


def sources(comparison: Comparison, word: str = "") -> list[str]:
    """Who published what, of the metrics whose name has ``word`` in it."""
    papers = [(i, paper) for i, paper in publications(comparison) if word in paper.metric.lower()]
    return [f"[{i}] published, not ours: {paper.source} ({paper.metric})." for i, paper in papers]


def published_notes(comparison: Comparison) -> list[str]:
    """The sources, and of each published loss in one line how often ours points the same way."""
    papers = [(index, paper) for index, paper in publications(comparison) if not higher_is_better(paper)]
    lines = sources(comparison)
    if papers:
        lines.append(
            "Published direction: whether our difference to the baseline has the published sign, ours by "
            f"{METRICS[comparison.experiment.metric].lower()} on our text, theirs by the metric named; undecided: ours "
            "is not distinguishable; equal there: no published difference."
        )
    if any(isinstance(published(paper, row), str) for _, paper in papers for row in comparison.rows):
        lines.append(
            "Published as diverging: agrees where every seed of ours was lost or stagnated; a row is tuned here, so "
            "that one which lives does not disagree."
        )
    return lines + [line for index, paper in papers if (line := summary(comparison, index, paper, agreement))]


def summary(comparison: Comparison, index: int, paper: PaperColumn, judge: Judge) -> str:
    """``Published direction [1]: agrees in 2 of 4, disagrees in Post-Norm, not here: QK-Post.``; "": nothing to say."""
    found: dict[str, list[str]] = {}
    for row in comparison.rows:
        if said := judge(paper, row):
            found.setdefault(said, []).append(row.label)
    pointed = [label for said, labels in found.items() if said != EQUAL for label in labels]
    if not pointed:
        return ""
    parts = [f"agrees in {len(found.get(AGREES, []))} of {len(pointed)}"]
    parts += [f"{said} in {'; '.join(found[said])}" for said in (DISAGREES, UNDECIDED) if said in found]
    others = [said for said in found if said not in (AGREES, DISAGREES, UNDECIDED, EQUAL)]
    parts += [f"{said}: {'; '.join(found[said])}" for said in others]
    return f"Published direction [{index}]: {', '.join(parts)}."


def _is_worse(row: Row) -> bool | None:
    """Whether ours is worse than the baseline; None where nothing can be said. A method of which every run was lost is
    worse than a baseline that has a result."""
    if row.difference is not None:
        return row.difference.mean > 0
    all_lost = len(row.lost) > 0 and len(row.lost) == len(row.ended)
    return True if all_lost and row.baseline is not None and row.baseline.estimate is not None else None


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
