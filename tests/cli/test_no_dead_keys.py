"""Every key of the configuration is read by some code; another would be a promise that nothing keeps."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest
from pydantic import BaseModel

import normlab
from normlab.config.schema import Config
from normlab.placement.schema import Placement

SOURCES = Path(normlab.__file__).parent
SCHEMAS = [SOURCES / "config" / name for name in ("schema.py", "architecture.py", "launch.py")]
READ_AS_DATA = {"scale", "preset"}  # labels: the report groups runs by them, from their config.yaml


def _keys(model: type[BaseModel], path: str = "") -> list[str]:
    """Every key but the slots of a placement, which placement/resolve.py reads by their names in a list."""
    keys = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and not issubclass(inner, Placement):
            keys += _keys(inner, f"{path}{name}.")
        else:
            keys.append(f"{path}{name}")
    return keys


@functools.cache
def _read() -> set[str]:
    """The attributes that some code reads; of the schemas themselves only what others call counts, not its checks."""
    roots: list[ast.AST] = [ast.parse(path.read_text()) for path in SOURCES.rglob("*.py") if path not in SCHEMAS]
    for node in (node for path in SCHEMAS for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.FunctionDef) and not any("validator" in ast.unparse(d) for d in node.decorator_list):
            roots.append(node)
    found = [node for root in roots for node in ast.walk(root)]
    return {node.attr for node in found if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


@pytest.mark.parametrize("key", _keys(Config))
def test_somebody_reads(key: str) -> None:
    assert key.rpartition(".")[2] in _read() | READ_AS_DATA, f"nothing reads {key}"


def test_a_dead_key_would_be_seen() -> None:
    assert "a_key_that_nothing_reads" not in _read()
