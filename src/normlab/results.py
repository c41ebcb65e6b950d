"""How a run can end, for those who write it, sweep over it and report it."""

from __future__ import annotations

FINISHED = ("done", "diverged")  # a status that will not change: the run has a result
LOST = ("nan", "exploded")  # outcomes whose final loss is never averaged
