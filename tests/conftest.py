"""What all tests share: one thread, no network, no wandb server, no cache of the user's; and what they prove.

``pytest tests --evidence=docs/verification.json`` writes down what the tests measured, for ``make docs`` to tabulate.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # other tests run beside
settings.load_profile("no deadline")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["WANDB_SILENT"] = "true"

Cell = float | int | str
_MEASURED = pytest.StashKey[dict[str, dict[str, dict[str, Cell]]]]()


class Evidence(Protocol):
    """Note what was measured of a placement, a norm or a preset: ``evidence("placement", "pre", equation=3e-16)``."""

    def __call__(self, kind: str, name: str, **columns: Cell) -> None: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    say = "run the tests that measure, and if all pass, write what they measured to FILE, as JSON"
    parser.addoption("--evidence", metavar="FILE", help=say)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--evidence") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--evidence gathers in one process: leave out -n")
    config.stash[_MEASURED] = {"placement": {}, "norm": {}, "preset": {}}
    _register_norms_of_the_user()


def _register_norms_of_the_user() -> None:
    """Started in a folder whose ``./configs/norm`` holds classes, the tests of every norm type test those too."""
    from normlab.config.compose import config_folders
    from normlab.config.norm_types import norm_types

    own = [kind for kind in norm_types(config_folders()).values() if not kind.shipped]
    if own:
        from normlab.config.schema import NormConfig
        from normlab.model.norms import build_norm

        build_norm(NormConfig(files={str(kind.file): "" for kind in own}), 1)


@pytest.fixture(scope="session")
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Several tests may fill one row. Of two measurements the worse counts, of two libraries both; "-": none."""
    measured = request.config.stash[_MEASURED]

    def note(kind: str, name: str, **columns: Cell) -> None:
        row = measured[kind].setdefault(name, {"library": "-"})
        for column, value in columns.items():
            row[column] = _of_both(row[column], value) if column in row else value

    return note


def _of_both(one: Cell, other: Cell) -> Cell:
    if isinstance(one, str) or isinstance(other, str):
        said = [str(value) for value in (one, other) if value != "-"]
        return "; ".join(dict.fromkeys(said)) or "-"
    return max(one, other)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--evidence"):
        idle = [item for item in items if "evidence" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=idle)
        items[:] = [item for item in items if "evidence" in getattr(item, "fixturenames", ())]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    target = session.config.getoption("--evidence")
    if not target or exitstatus != pytest.ExitCode.OK:
        return
    measured = session.config.stash[_MEASURED]
    versions = {name: importlib.metadata.version(name) for name in ("normlab", "torch", "transformers")}
    content = {
        "made with": {"python": platform.python_version(), **versions, "machine": platform.machine()},
        **{kind: {name: dict(sorted(rows[name].items())) for name in sorted(rows)} for kind, rows in measured.items()},
    }
    Path(target).write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["NORMLAB_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text with some structure, the same on every Python."""
    path = tmp_path_factory.mktemp("corpus") / "numbers.txt"
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    lines = [f"{words[i % 10]} and {words[(i * 7) % 10]} make {words[(i * 8) % 10]}" for i in range(2000)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def tiny(corpus: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Overrides of a run of a second: ``tiny("placement=hybrid")``."""

    def overrides(*more: str) -> list[str]:
        return [
            "scale=smoke", "data=files", f"data.paths=[{corpus}]", "data.tokenizer.kind=bytes", "wandb=disabled",
            f"runs_dir={tmp_path}/runs", "train.precision=fp32", "train.compile=off", "train.threads=1", *more,
        ]  # fmt: skip

    return overrides
