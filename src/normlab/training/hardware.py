"""What ``auto`` means on this machine: device, precision, compilation."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from normlab.config.schema import TrainConfig
from normlab.errors import UserError

_COMPILE_PAYS_AFTER = 100  # steps: below, a CPU compiles for longer than it trains


@dataclass(frozen=True)
class Hardware:
    """The settings in force, recorded with every run."""

    device: torch.device
    bf16: bool
    compiled: bool
    graphed: bool = False

    @property
    def precision(self) -> str:
        return "bf16" if self.bf16 else "fp32"

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else cpu_name()

    def autocast(self) -> torch.autocast:
        """Matrix products in bfloat16 where that is the run's precision; weights stay in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def resolve_hardware(train: TrainConfig) -> Hardware:
    """Decide what ``auto`` stands for. Raises UserError for a device that is not here."""
    if train.device == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device=cuda, but torch sees no GPU here; use train.device=auto or cpu")
    cuda = train.device != "cpu" and torch.cuda.is_available()
    bf16 = train.precision == "bf16" or (train.precision == "auto" and has_bf16(cuda))
    if train.compile == "auto":
        # Inductor needs a C++ compiler for CPU code; on a GPU, Triton brings its own.
        compiled = cuda or (train.steps >= _COMPILE_PAYS_AFTER and bool(shutil.which("g++") or shutil.which("clang++")))
    else:
        compiled = train.compile == "on"
    return Hardware(torch.device("cuda" if cuda else "cpu"), bf16, compiled, cuda and train.cuda_graph)


def has_bf16(cuda: bool) -> bool:
    """Whether the processor multiplies bfloat16 in hardware: a GPU since Ampere, a CPU with AMX or AVX512-BF16."""
    if cuda:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = _cpuinfo("flags").split()
    return "amx_bf16" in flags or "avx512_bf16" in flags


def cpu_name() -> str:
    return _cpuinfo("model name") or "CPU"


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "")
