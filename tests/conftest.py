"""What all tests share: one thread, no network, no wandb server, no cache of the user's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["WANDB_SILENT"] = "true"


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
