"""Checkpoints that a cut run resumes from exactly: written whole or not at all, checksummed, the last few kept."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from normlab.files import write_atomic


def save_checkpoint(
    folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, extra: dict[str, Any], keep: int
) -> None:
    """Write ``step_<n>.pt``, then ``step_<n>.json`` with its SHA-256, which makes it count; drop all but ``keep``."""
    buffer = io.BytesIO()
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict(), **extra}, buffer)
    payload = buffer.getbuffer()
    folder.mkdir(parents=True, exist_ok=True)
    for torn in folder.glob(".step_*"):  # what a process that was killed while writing left behind
        torn.unlink()
    write_atomic(folder / f"step_{step:07d}.pt", payload)
    receipt = {"step": step, "sha256": hashlib.sha256(payload).hexdigest()}
    write_atomic(folder / f"step_{step:07d}.json", json.dumps(receipt).encode())
    for old in sorted(folder.glob("step_*.json"))[:-keep]:
        old.unlink()
        old.with_suffix(".pt").unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, or None. One that fails its checksum is passed over with a warning."""
    for receipt in sorted(folder.glob("step_*.json"), reverse=True):
        path = receipt.with_suffix(".pt")
        try:
            payload = path.read_bytes()
            if hashlib.sha256(payload).hexdigest() == json.loads(receipt.read_text())["sha256"]:
                # Nothing in a checkpoint is executed: tensors, numbers and names only.
                return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except (OSError, ValueError, KeyError, pickle.UnpicklingError):
            pass
        print(f"warning: {path} is damaged; going back to the checkpoint before it", flush=True)
    return None
