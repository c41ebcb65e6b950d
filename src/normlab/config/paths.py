"""Where the YAML lives: at the root of a checkout, inside the package in a wheel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from normlab.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(folder: str) -> Path:
    """The ``configs`` or ``experiments`` folder that belongs to this installation."""
    inside = _PACKAGE / folder
    return inside if inside.is_dir() else _PACKAGE.parents[1] / folder


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """A YAML file's mapping. Raises UserError for an unreadable file and for one that is no mapping, ``what`` it is."""
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(plain, dict):
        raise UserError(f"{path}: {what}")
    return plain


def find_yaml(name_or_path: str, folder: str) -> Path:
    """``quickstart``, ``quickstart.yaml`` or a path, as a path that exists. The user's own folder goes first."""
    candidates = [Path(name_or_path)]
    for root in (Path(folder), shipped(folder)):
        candidates += [root / name_or_path, root / f"{name_or_path}.yaml"]
    for path in candidates:
        if path.is_file():
            return path
    known = {path.stem for root in (Path(folder), shipped(folder)) for path in root.glob("*.yaml")}
    raise UserError(f"no {folder.rstrip('s')} '{name_or_path}'; {nearest(Path(name_or_path).stem, known)}")
