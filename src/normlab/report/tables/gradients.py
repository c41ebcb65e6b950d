"""Gradient norms over depth as numbers: what Fig. 2 of the HybridNorm paper draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from statistics import fmean

from scipy import stats

from normlab.report.assemble import assemble, setting_columns
from normlab.report.cells import nothing
from normlab.report.comparison import Comparison
from normlab.report.notes import notes_on_runs
from normlab.report.row import Row
from normlab.report.statistics import estimate
from normlab.report.table import Cell, Column, Table, table

STEPS = (1, 100)  # the paper's two panels
_PLACES = ("first", "middle", "last")
Profile = list[float | None]  # gradient norm of each block; None where it was not finite


@table("gradients")
def gradients(comparison: Comparison) -> Table:
    """Unclipped gradient norm of the first, middle and last block at two steps, and its slope over depth."""
    made = setting_columns(comparison)
    shown = {step: nearest_step(comparison, step) for step in STEPS}
    asked = [step for step in STEPS if step == STEPS[0] or shown[step] != shown[STEPS[0]]]
    for step in asked:
        group = f"Step {shown[step]}"
        for number, place in enumerate(_PLACES):
            column = Column(place, (f"step{step}_{place}",), group)
            made.append((column, _norm_cell(comparison, shown[step], number / (len(_PLACES) - 1))))
        fields = tuple(f"step{step}_slope{end}" for end in ("", "_lo", "_hi", "_n"))
        made.append((Column("slope [95 % CI]", fields, group), _slope_cell(comparison, shown[step])))
    missing = [_missing_note(comparison, shown[step]) for step in asked]
    sentence = "Gradient norm of a block before clipping."
    return assemble("gradients", comparison, sentence, made, notes_on_runs(comparison, [*missing, _NOTE]))


_NOTE = (
    "Norms: geometric mean over seeds, of the first block, the middle one (the lower of two) and the last, at the "
    "probed step that for most finished runs is the nearest to 1 and to 100. Slope: of ln of the norm over the block "
    "number, least squares over all blocks of a run; mean over seeds with its t interval. Below 0: later blocks have "
    "the smaller gradients. A dash where a seed has no such gradient: a mean without the lost ones would flatter."
)


def nearest_step(comparison: Comparison, step: int) -> int:
    """The probed step that for most finished runs is the nearest to ``step``; of several the nearest, the earlier.

    A run that was lost before has no say: its last steps are not what the others are to be shown at. Where none has
    finished, all that ended have one; ``step`` where there is no probe.
    """
    ended = [run for row in comparison.rows for _, run in row.ended.iterrows()]
    for runs in ([run for run in ended if run["status"] == "done"], ended):
        probed = [[*_gradients(comparison, run["run_dir"])] for run in runs]
        votes = Counter(min(steps, key=lambda at: (abs(at - step), at)) for steps in probed if steps)
        if votes:
            return min(votes, key=lambda at: (-votes[at], abs(at - step), at))
    return step


def _gradients(comparison: Comparison, run_dir: str) -> dict[int, Profile]:
    """A run's gradient norms by probed step."""
    probes = comparison.probes(run_dir)
    return {int(probe["step"]): list(probe["grad_norm"]) for probe in probes if probe.get("grad_norm")}


def _profiles(comparison: Comparison, row: Row, step: int) -> list[Profile]:
    """Of each ended run its gradient norms at ``step``; empty where it has no probe there."""
    return [_gradients(comparison, run_dir).get(step, []) for run_dir in row.ended["run_dir"]]


def _missing_note(comparison: Comparison, step: int) -> str:
    short = []
    for row in comparison.rows:
        profiles = _profiles(comparison, row, step)
        missing = sum(not profile or not all(profile) for profile in profiles)
        short += [f"{row.label} {missing} of {len(profiles)}"] if missing else []
    return f"Without a gradient of every block at step {step}: {'; '.join(short)} runs." if short else ""


def _norm_cell(comparison: Comparison, step: int, depth: float) -> Callable[[Row], Cell]:
    """``depth``: 0 for the first block, 1 for the last."""

    def cell(row: Row) -> Cell:
        profiles = _profiles(comparison, row, step)
        found = [profile[math.floor(depth * (len(profile) - 1))] if profile else None for profile in profiles]
        logs = [math.log(norm) for norm in found if norm]
        if not logs or len(logs) < len(found):
            return nothing()
        return Cell(f"{math.exp(fmean(logs)):.3g}", (math.exp(fmean(logs)),))

    return cell


def _slope_cell(comparison: Comparison, step: int) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        slopes = [depth_slope(profile) for profile in _profiles(comparison, row, step)]
        known = [slope for slope in slopes if slope is not None]
        found = estimate(known) if len(known) == len(slopes) else None
        if found is None:
            return nothing(4)
        interval = "" if found.lo is None else f" [{found.lo:+.3f}, {found.hi:+.3f}]"
        return Cell(f"{found.mean:+.3f}{interval}", (found.mean, found.lo, found.hi, found.n))

    return cell


def depth_slope(profile: Profile) -> float | None:
    """The slope of ln(norm) over the block number by least squares; None below two blocks or where one has no norm."""
    if len(profile) < 2 or not all(profile):
        return None
    logs = [math.log(norm) for norm in profile if norm]
    return float(stats.linregress(range(len(logs)), logs).slope)
