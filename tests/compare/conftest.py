"""The report's tests write runs as training does; the comparison is tried on the same."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "report"))  # synthetic_runs
