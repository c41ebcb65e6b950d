"""Run folders on disk, as one frame: a row per run, a column per setting and per result.

A run that is still going, was cut or is damaged is a row like any other: its ``status`` says so.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from normlab.config.identity import treatment_hash
from normlab.config.schema import Config
from normlab.errors import UserError, nearest
from normlab.placement.schema import InitSpec
from normlab.quantities import as_number
from normlab.results import read_config, read_summary
from normlab.seal import broken_seal

log = logging.getLogger(__name__)

# Config groups that a grid names as a whole: the column `placement` holds `placement.name`.
NAMED_GROUPS = ("placement", "norm", "model", "data", "optim")
# Columns that exist even where every run is still going.
_ALWAYS = (
    *("seed", *NAMED_GROUPS, "init", "init_asked", "treatment", "outcome", "diverged_step", "init_loss"),
    *("val_loss", "val_bpb", "train_loss", "best_val_loss", "tokens_per_s"),
)
_UNFINISHED = ("running", "interrupted", "failed")  # a run on its way again may change what was sealed
Damage = (
    OSError,
    UnicodeDecodeError,
    ValueError,
    yaml.YAMLError,
)  # pydantic's and json's errors are ValueErrors


def load_runs(path: str | Path = "runs/quickstart", made_by: str = "") -> pd.DataFrame:
    """Every run below ``path``, sorted by folder.

    Columns: ``run_dir``, ``treatment`` (hash), the settings with dotted keys (``optim.lr``,
    ``placement.attn.post``; ``placement``, ``norm``, ``model``, ``data``, ``optim`` are names, ``init`` is
    the resolved one and ``init_asked`` what was asked for), the summary (``status``, ``outcome``,
    ``val_loss``, ``spikes.loss.events``, ...; the prepared text under ``corpus.``), the machine (``env.``).

    Raises UserError where there is no run; ``made_by``: what to write after `normlab sweep` then, as the folder may
    have another name than the experiment.
    """
    root = Path(path)
    rows = [_row(folder) for folder in _run_folders(root)]
    if not rows:
        raise UserError(_nothing_found(root, made_by))
    frame = pd.DataFrame(rows)
    absent = [column for column in _ALWAYS if column not in frame]
    return frame.assign(**dict.fromkeys(absent, float("nan")))


def load_metrics(run_dir: str | Path) -> pd.DataFrame:
    """``metrics.jsonl`` as a frame sorted by ``step``: loss, grad_norm, lr, val_loss, ... (NaN: none)."""
    records = _read_jsonl(Path(run_dir) / "metrics.jsonl")
    frame = pd.DataFrame(records, columns=list(dict.fromkeys(["step", *(key for r in records for key in r)])))
    values = frame.columns.drop("step")
    frame[values] = frame[values].apply(pd.to_numeric, errors="coerce")
    return frame


def load_probes(run_dir: str | Path) -> list[dict[str, Any]]:
    """``probes.jsonl``, one dictionary per probed step, in the order of the steps."""
    return _read_jsonl(Path(run_dir) / "probes.jsonl")


def as_text(value: Any) -> str:
    """A setting's value as one writes it: numbers without their type's noise, ``null`` for nothing."""
    if value is None or (isinstance(value, float) and value != value):
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:.10g}"
    return " ".join(str(value).split())


def as_setting(value: Any) -> str:
    """``as_text``, and of 1e-3 and 0.001 the same text."""
    number = as_number(value)
    return as_text(value if number is None else number)


def flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; a list becomes its text."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = json.dumps(value) if isinstance(value, list) else value
    return flat


def init_text(init: str | InitSpec) -> str:
    """``megatron``; or a specification in full: ``xavier(down*(8*L)**(-1/4))``."""
    if isinstance(init, str):
        return init
    changes = [f"std={init.std}"] if init.std is not None else []
    changes += [f"{matrix}*{gain}" for matrix, gain in sorted(init.gain.items())]
    return f"{init.base}({', '.join(changes)})" if changes else init.base


def _run_folders(root: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(root):
        if "config.yaml" in files:
            below.clear()  # what lies inside a run (checkpoints, a mirror's own config.yaml) is no run
            yield Path(folder)
        below[:] = sorted(name for name in below if not name.startswith("."))


def _row(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"run_dir": str(folder), "status": "running"}
    try:
        config = Config.model_validate(read_config(folder))
    except (*Damage, UserError) as error:
        return row | {"status": "corrupt", "error": _warn(folder / "config.yaml", error)}
    if read_summary(folder).get("status") not in _UNFINISHED and (damaged := broken_seal(folder)):
        changed = ValueError("not as the run left it; delete that run's folder and start its sweep again")
        return row | {"status": "corrupt", "error": _warn(folder / damaged, changed)}
    row |= _config_columns(config)
    summary = folder / "summary.json"
    if summary.exists():
        try:
            row |= _summary_columns(json.loads(summary.read_text()))
        except (*Damage, AttributeError) as error:
            return row | {"status": "corrupt", "error": _warn(summary, error)}
    env = folder / "env.json"
    if env.exists():
        try:
            content = json.loads(env.read_text())
            row |= {f"env.{key}": value for key, value in flatten(content).items() if key != "created"}
        except (*Damage, AttributeError) as error:
            _warn(env, error)
    return row


def _config_columns(config: Config) -> dict[str, Any]:
    plain = config.model_dump(mode="json", by_alias=True)
    columns: dict[str, Any] = {"treatment": treatment_hash(config)}
    plain["placement"]["init"] = init_text(config.placement.init)
    plain["init"] = init_text(config.recipe_init)
    columns |= flatten(plain)
    columns |= {group: plain[group]["name"] for group in NAMED_GROUPS}
    columns["init_asked"] = init_text(config.init)
    return columns


def _summary_columns(summary: dict[str, Any]) -> dict[str, Any]:
    summary = dict(summary)
    corpus = summary.pop("data", None) or {}  # `data` is a config group already
    final = summary.pop("final", None) or {}
    summary.pop("treatment_hash", None)  # `treatment` is computed from the configuration itself
    return flatten(summary) | final | {f"corpus.{key}": value for key, value in corpus.items()}


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The records of a step joined, later lines over earlier ones: a resumed run writes some steps again."""
    by_step: dict[int, dict[str, Any]] = {}
    damaged = 0
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    except Damage as error:
        _warn(path, error)
        return []
    for line in lines:
        try:
            record = json.loads(line)
            by_step.setdefault(int(record["step"]), {}).update(record)
        except (ValueError, KeyError, TypeError):
            damaged += 1
    if damaged:
        log.warning("%s: %d unreadable line(s) left out", path, damaged)
    return [by_step[step] for step in sorted(by_step)]


def _warn(path: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    log.warning("%s is damaged: %s", path, reason)
    return f"{path.name}: {reason}"


def _nothing_found(root: Path, made_by: str) -> str:
    siblings = [p.name for p in root.parent.iterdir() if p.is_dir()] if root.parent.is_dir() else []
    siblings = [name for name in siblings if name != root.name]
    elsewhere = f"; or another folder of {root.parent}: {nearest(root.name, siblings)}" if siblings else ""
    return f"no runs below {root}; make them with `normlab sweep {made_by or root.name}`{elsewhere}"
