"""What a figure was measured on: processor, memory, GPU."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

# Instructions that decide how fast a CPU multiplies matrices.
_FLAGS = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2", "fma")


def machine(device_type: str) -> dict[str, Any]:
    """``device_type``: cpu or cuda."""
    from normlab.training.hardware import cpu_name

    flags = re.search(r"^flags\s*:(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    words = flags[1].split() if flags else []
    facts: dict[str, Any] = {
        "cpu": cpu_name(),
        "cpu_flags": [flag for flag in _FLAGS if flag in words],
        "cores": cores(),
        "memory_gb": _memory_gb(),
        "platform": platform.platform(),
        "gpu": None,
    }
    if device_type == "cuda":
        import torch

        properties = torch.cuda.get_device_properties(0)
        facts |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / 1e9, 1)}
    return facts


def cores() -> int:
    """The cores that this process may use: in a container or a batch job not all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_label(device_type: str) -> str:
    """How a results file calls the device: ``cpu``, ``nvidia-h200``."""
    if device_type != "cuda":
        return device_type
    import torch

    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")


def _memory_gb() -> float | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return round(int(found[1]) * 1024 / 1e9, 1) if found else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # not Linux
        return ""
