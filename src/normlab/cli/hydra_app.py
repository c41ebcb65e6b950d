"""Hydra's command line, entered with our overrides and left with one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from normlab.config.compose import config_folders, finalize, one_line_errors
from normlab.config.composer import register_schema
from normlab.config.overrides import tidy
from normlab.config.paths import shipped
from normlab.errors import UserError
from normlab.sweep.summary import CellsFailed


def run_hydra(overrides: Sequence[str], *flags: str, sweep: bool = False) -> int:
    """Train one run, or sweep, as the overrides say; returns the exit code. Raises UserError."""
    summaries: list[dict[str, Any]] = []
    mistakes: list[UserError] = []

    def task(composed: DictConfig) -> None:
        try:
            hydra_config = HydraConfig.get()
            config = finalize(composed, hydra_config.runtime.choices, hydra_config.overrides.task)
            from normlab.training import train  # torch takes seconds; a mistake above shall not wait for them

            summaries.append(train(config))
        except UserError as error:
            # Hydra prints lines of its own about an exception, unless a launcher asks it to keep it.
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            mistakes.append(error)

    register_schema(config_folders())
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints errors itself, in many lines, and exits
    kept, sys.argv = sys.argv, ["normlab", *tidy(overrides), *flags, *(["--multirun"] if sweep else [])]
    try:
        with one_line_errors():
            hydra.main(config_path=str(shipped("configs").resolve()), config_name="config", version_base="1.3")(task)()
    except CellsFailed:
        return 1
    finally:
        sys.argv = kept
    if mistakes:
        raise mistakes[0]
    if summaries and summaries[0]["status"] == "interrupted":
        return 128 + (summaries[0].get("signal") or signal.SIGINT)
    return 0
