"""How a sweep ended: one line, the reasons of what failed, and what to type next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from normlab.results import FINISHED
from normlab.sweep.job import Job, setting, varying


class CellsFailed(Exception):
    """Some runs of a sweep did not come to an end. They have been named already."""

    def __init__(self, failed: int, total: int) -> None:
        super().__init__(f"{failed} of {total} cells failed")


def print_summary(jobs: Sequence[Job]) -> None:
    """Print how the jobs ended."""
    before = sum(job.was_finished for job in jobs)
    counts = Counter(job.status for job in jobs)
    words = [f"{count} {status}" for status, count in counts.most_common()]
    print(f"{len(jobs)} cells: {', '.join(words)}" + (f" ({before} of them before)" if before else ""))
    keys = varying(jobs)
    for job in jobs:
        if job.status == "failed":
            name = " ".join(f"{key}={setting(job, key)}" for key in keys) or job.run_dir.parent.name
            print(f"failed: {name}: {job.error} ({job.log})")
    if any(job.status not in FINISHED for job in jobs):
        print("next: the same command once more runs what is missing and skips what is done")


def print_next(experiments: Sequence[str]) -> None:
    """What to type when all runs of the named experiments are done."""
    print("next: " + "; ".join(f"normlab report {name}" for name in dict.fromkeys(experiments)))
