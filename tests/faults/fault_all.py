"""All faults, in the order of the table."""

from __future__ import annotations

import fault_bytes
import fault_disks
import fault_kills
import fault_processes
import fault_wandb
from fault_record import FAULTS as _REGISTERED

THEMES = ("Killed", "Stopped", "Disk", "Bytes", "wandb", "Side by side", "Memory")
_MODULES = (fault_bytes, fault_disks, fault_kills, fault_processes, fault_wandb)  # which register by being imported
FAULTS = sorted(_REGISTERED, key=lambda fault: THEMES.index(fault.theme))
