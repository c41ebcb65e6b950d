"""A run's folder: the contract between training, which writes it, and everything that reads it.

runs/<experiment>/<slug>-<hash8>/seed<k>/
        {config.yaml, metrics.jsonl, probes.jsonl, summary.json, env.json, checkpoints/}
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from normlab.config.identity import run_dir, treatment_hash
from normlab.config.schema import Config
from normlab.errors import UserError
from normlab.files import unwritable, write_atomic, write_json
from normlab.results import read_summary
from normlab.training.hardware import Hardware


class RunFolder:
    """Paths and small files of one run."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = run_dir(config)
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.probes = self.path / "probes.jsonl"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from None

    def summary(self) -> dict[str, Any]:
        return read_summary(self.path)

    def write_summary(self, summary: dict[str, Any]) -> None:
        write_json(self.path / "summary.json", summary)

    def mark_failed(self, error: str) -> None:
        """Keep what the summary holds, above all which data the run began on."""
        self.write_summary({**self.summary(), **self.base_summary(), "status": "failed", "error": error})

    def begin(self, hardware: Hardware, data_fingerprint: str) -> None:
        """Write the configuration and where it runs.

        Raises UserError if a run that is to go on from a checkpoint began on other data or in another precision.
        """
        if any(self.checkpoints.glob("step_*.json")):
            began = self.summary()
            text, precision = began.get("data", {}).get("fingerprint"), began.get("precision")
            if text not in (None, data_fingerprint):
                raise UserError(
                    f"the data changed since {self.path} began ({text} -> {data_fingerprint}); "
                    f"delete that folder, or give the experiment another name"
                )
            if precision not in (None, hardware.precision):
                raise UserError(
                    f"{self.path} began in {precision} and would go on in {hardware.precision} here; "
                    f"go on where it began, or delete that folder"
                )
        plain = self.config.model_dump(mode="json", by_alias=True)
        write_atomic(self.path / "config.yaml", yaml.safe_dump(plain, sort_keys=False))
        write_json(self.path / "env.json", _environment(hardware))

    def base_summary(self) -> dict[str, Any]:
        return {"status": "running", "outcome": None, "treatment_hash": treatment_hash(self.config), "pid": os.getpid()}


def _environment(hardware: Hardware) -> dict[str, Any]:
    packages = ("normlab", "torch", "hydra-core", "omegaconf", "wandb", "datasets", "tokenizers", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "device": hardware.device.type,
        "hardware": hardware.name,
        "precision": hardware.precision,
        "compiled": hardware.compiled,
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "git_commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this code where it runs from a checkout; marked where the tree had changes."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
