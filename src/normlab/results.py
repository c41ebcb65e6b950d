"""How a run can end and what it last said of itself, for those who write it, sweep over it and report it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

FINISHED = ("done", "diverged")  # a status that will not change: the run has a result
LOST = ("nan", "exploded")  # outcomes whose final loss is never averaged


def read_summary(run_dir: Path) -> dict[str, Any]:
    """A run folder's summary.json; empty where there is none or a damaged one."""
    try:
        plain = json.loads((run_dir / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return plain if isinstance(plain, dict) else {}


def read_config(run_dir: Path) -> Any:
    """A run folder's config.yaml, as plain data. Raises OSError, UnicodeDecodeError or yaml.YAMLError."""
    # libyaml, where PyYAML was built with it, reads a hundred runs in one second instead of eight.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((run_dir / "config.yaml").read_text(), Loader=loader)
