"""Every fault in tests/faults, done for real to a small sweep: what was expected, what was observed -> docs/faults.md.

    python scripts/fault_table.py              all of them, ten minutes on two quiet cores; root, for the full disks
    python scripts/fault_table.py wandb full   those whose theme or name holds one of the words, and no file is written

Exits with 1 where an outcome is not the expected one.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT / "tests" / "faults"))
os.environ.setdefault("WANDB_SILENT", "true")

from fault_all import FAULTS  # noqa: E402
from fault_lab import Lab  # noqa: E402
from fault_record import Fault, Observed, Skipped  # noqa: E402

# What differs from one time to the next: it is left out, so that the page changes with the outcomes only.
_CHANCE = re.compile(r" \(\S*log\.txt\)|(?<=step_)\d+|(?<=-)[0-9a-f]{8}(?=/)|\b[0-9a-f]{16}\b|(?<=127\.0\.0\.1):\d+")
_PAGE = """\
# What faults do to a sweep

Made by `python scripts/fault_table.py`, which does every fault for real to a small sweep (four cells of 60 steps, two
at once) and compares what is there in the end, byte for byte, with the sweep to which nothing happened: the table as
Markdown, LaTeX and CSV, and the metrics and probes of every run. The same faults are the slow tests in `tests/faults`,
where `test_crash_points.py` besides kills a run before every single operation on its files.
"""
_HEAD = """
## {theme}

| Fault | Expected | The sweep that met it | What it said | The next sweep | Table and rows |
| --- | --- | --- | --- | --- | --- |
"""


def main(words: list[str]) -> int:
    chosen = [fault for fault in FAULTS if not words or any(word in f"{fault.theme} {fault.name}" for word in words)]
    if not chosen:
        print(f"no fault has any of {' '.join(words)} in its name", file=sys.stderr)
        return 2
    rows: dict[str, list[str]] = {fault.theme: [] for fault in chosen}
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        lab = Lab(Path(folder))
        for number, fault in enumerate(chosen, start=1):
            print(f"[{number}/{len(chosen)}] {fault.theme}: {fault.name}", flush=True)
            try:
                observed = fault.inject(lab)
            except Skipped as reason:
                print(f"    not done here: {reason}", flush=True)
                rows[fault.theme].append(_row(fault, Observed("not done on this machine", str(reason), "", ""), folder))
                continue
            mistakes = fault.mistakes(observed)
            wrong += bool(mistakes)
            print("".join(f"    WRONG: {mistake}\n" for mistake in mistakes) or f"    {observed}\n", end="", flush=True)
            rows[fault.theme].append(_row(fault, observed, folder))
    print(f"{len(chosen)} faults, {wrong} with another outcome than expected")
    if not words and not wrong:
        sections = [_HEAD.format(theme=theme) + "\n".join(lines) + "\n" for theme, lines in rows.items()]
        (_ROOT / "docs" / "faults.md").write_text(_PAGE + "".join(sections))
    return 1 if wrong else 0


def _row(fault: Fault, observed: Observed, folder: str) -> str:
    """A line of the table."""
    said = _CHANCE.sub("", re.sub(rf"{re.escape(folder)}/(\d{{3}}/)?", "", observed.line))
    cells = (fault.name, fault.expected, observed.first, said, observed.then, observed.table)
    return "| " + " | ".join(re.sub(r"([|<*])", r"\\\1", cell) or "-" for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
