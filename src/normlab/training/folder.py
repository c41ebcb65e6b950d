"""A run's folder: the contract between training, which writes it, and everything that reads it.

runs/<experiment>/<slug>-<hash8>/seed<k>/
        {config.yaml, metrics.jsonl, probes.jsonl, summary.json, env.json, checkpoints/}
"""

from __future__ import annotations

import contextlib
import os
import platform
from typing import Any

import torch
import yaml

from normlab.config.identity import run_dir, treatment_hash
from normlab.config.schema import Config
from normlab.errors import DiskError, UserError
from normlab.files import as_json, remove_torn, write_atomic, write_json
from normlab.provenance import commit, versions
from normlab.results import FINISHED, read_summary
from normlab.seal import broken_seal, seal
from normlab.secrecy import redact
from normlab.training.hardware import Hardware
from normlab.training.parallel import Parallel

_PACKAGES = ("normlab", "torch", "hydra-core", "omegaconf", "wandb", "datasets", "tokenizers", "numpy")


class RunFolder:
    """Paths and small files of one run."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = run_dir(config)
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.probes = self.path / "probes.jsonl"

    def finished(self) -> dict[str, Any] | None:
        """The summary of a run that is over and whole. What is damaged is said, and to be made again."""
        summary = self.summary()
        if summary.get("status") not in FINISHED:
            return None
        if damaged := broken_seal(self.path):
            print(f"warning: {self.path / damaged} is damaged; mending the run from its checkpoints", flush=True)
        return None if damaged else summary

    def summary(self) -> dict[str, Any]:
        return read_summary(self.path)

    def write_summary(self, summary: dict[str, Any]) -> None:
        text = as_json(summary)
        if summary["status"] in FINISHED:
            seal(self.path, text)  # before: no finished run is ever without its sums
        write_atomic(self.path / "summary.json", text)

    def mark_failed(self, error: str) -> None:
        """Keep what the summary holds, above all which data the run began on. A disk that takes no more is no second
        error, and what goes wrong behind the end of a run takes nothing from its result."""
        summary = self.summary()
        if summary.get("status") in FINISHED and broken_seal(self.path) is None:
            return
        with contextlib.suppress(DiskError):
            self.write_summary({**summary, **self.base_summary(), "status": "failed", "error": redact(error)})

    def begin(self, hardware: Hardware, parallel: Parallel, data_fingerprint: str) -> None:
        """Write the configuration and where it runs.

        Raises UserError if a run that is to go on from a checkpoint began on other data or in another precision.
        """
        remove_torn(self.path)
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
        write_json(self.path / "env.json", _environment(hardware, parallel))

    def base_summary(self) -> dict[str, Any]:
        return {"status": "running", "outcome": None, "treatment_hash": treatment_hash(self.config), "pid": os.getpid()}


def _environment(hardware: Hardware, parallel: Parallel) -> dict[str, Any]:
    packages = versions(_PACKAGES)
    return {
        "python": packages.pop("python"),
        "platform": platform.platform(),
        "packages": packages,
        "device": hardware.device.type,
        "hardware": hardware.name,
        "precision": hardware.precision,
        "compiled": hardware.compiled,
        "parallel": parallel.kind,
        "processes": parallel.world,
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "git_commit": commit(),
    }
