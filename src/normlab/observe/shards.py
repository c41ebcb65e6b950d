"""Parameter-shaped tensors of which this process holds some rows (FSDP2's DTensors), and sums over all of their rows.

Elementwise arithmetic is done on the rows that are here, and whatever is summed over elements is summed once more over
the processes. For a tensor that is whole, both functions are the identity.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor


def local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The rows of each that are here, not copied; possibly none."""
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]


def shard_group(tensor: Tensor) -> dist.ProcessGroup | None:
    """The processes that share its rows; None where it is whole."""
    mesh = getattr(tensor, "device_mesh", None)
    return None if mesh is None else mesh.get_group()


def over_shards(sums: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Sums over the elements that are here -> over all elements. In place."""
    if group is not None:
        dist.all_reduce(sums, group=group)
    return sums
