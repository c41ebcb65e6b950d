"""Gradient norms by block and by kind of matrix, from what the training step has anyway.

Every sum over the elements of a parameter-shaped tensor is taken here, by ``norms`` and ``dots``, on the device.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from normlab.observe.shards import local, over_shards, shard_group

Group = dist.ProcessGroup | None

_OUTSIDE = ("embed", "pos", "head")


class ParameterMap:
    """Which parameter belongs to which block and to which kind of matrix."""

    def __init__(self, network: nn.Module, n_layers: int) -> None:
        self.parameters: list[nn.Parameter] = []
        self.n_layers = n_layers
        self.block: list[int] = []  # of each parameter; n_layers stands for what is outside the blocks
        self.kind: list[int] = []  # of each parameter, an index into ``kinds``
        self.is_matrix: list[bool] = []  # a linear layer's or a table's, not a bias, a gain or what mixes streams
        kinds: dict[str, int] = {}
        for name, parameter in network.named_parameters():
            path = name.split(".")
            kind = _kind_of(path)
            self.parameters.append(parameter)
            self.block.append(int(path[1]) if path[0] == "blocks" else n_layers)
            self.kind.append(kinds.setdefault(kind, len(kinds)))
            self.is_matrix.append(kind not in ("norm", "residual") and path[-1] in ("weight", "direction"))
        self.kinds = list(kinds)
        self.group = shard_group(self.parameters[0])  # the processes that share the rows of every parameter
        # A parameter counts for its block and for its kind. The places after the blocks: what is outside of them.
        groups = [*self.block, *(n_layers + 1 + kind for kind in self.kind)]
        self._index = torch.tensor(groups, device=self.parameters[0].device)

    def gradient_norms(self) -> Tensor:
        """(P,), 0 for a parameter without a gradient."""
        return norms(local(p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters), self.group)

    def by_block_and_kind(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        """Sums (L,) and (K,), in the order of ``kinds``, of a per-parameter quantity (P,)."""
        n = self.n_layers
        sums = torch.zeros(n + 1 + len(self.kinds), device=squares.device)
        sums.index_add_(0, self._index, squares.repeat(2))  # not a product with zeros, which infinity would spread
        return sums[:n], sums[n + 1 :]


def _kind_of(path: list[str]) -> str:
    """blocks.3.attn.branch.q.weight -> attn.q; what mixes streams -> residual; what sits in a slot -> norm."""
    if path[0] in _OUTSIDE:
        return path[0]
    if path[0] == "blocks" and path[3] == "branch" and path[4] in ("q", "k", "v", "o", "up", "gate", "down", "router"):
        return f"{path[2]}.{path[4]}"
    if any(part.isdigit() for part in path[2:]):  # a slot numbers its operations, a wiring's slots too
        return "norm"
    return "residual" if path[0] == "streams" or "add" in path[:4] else "norm"


def norms(tensors: Iterable[Tensor], group: Group = None) -> Tensor:
    """The norm of each tensor: (P,). ``group``: the tensors are the rows that are here of what it shares."""
    found = torch.stack(torch._foreach_norm(list(tensors))).float()
    return found if group is None else over_shards(found.square(), group).sqrt()


def dots(these: Iterable[Tensor], those: Iterable[Tensor], group: Group = None) -> Tensor:
    """The inner product of each tensor with its like: (P,). ``group``: as in ``norms``."""
    products = [torch.dot(a.flatten(), b.flatten()) for a, b in zip(these, those, strict=True)]
    return over_shards(torch.stack(products).float(), group)


def initial_gradients(
    backward: Callable[[Tensor], object], network: nn.Module, parameters: ParameterMap, batches: Iterable[Tensor]
) -> dict[str, list[float]]:
    """Norms of the expected gradient at initialisation: averaged over ``batches`` first, and only then its norm.

    Xiong et al. 2020 (arXiv 2002.04745): of the last FFN's second matrix O(d sqrt(ln d)) for Post-Norm, and smaller by
    sqrt(L) for Pre-Norm. ``init_grad_norm`` (L,) is of whole blocks, ``init_grad_norm.KIND`` (L,) of their matrices of
    a kind, such as ``ffn.down``.

    ``backward`` adds the gradient of one of ``batches``, of which there is at least one, to ``.grad``. To be called
    before the first step; it leaves no trace.
    """
    count = 0
    with leaving_no_trace(network):
        for batch in batches:
            backward(batch)
            count += 1
        gradients = parameters.gradient_norms()
        squares = (gradients / count).square().tolist()
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * parameters.n_layers)
    places = zip(squares, parameters.block, parameters.kind, parameters.is_matrix, strict=True)
    for square, block, kind, is_matrix in places:
        if block < parameters.n_layers:
            sums["init_grad_norm"][block] += square
            if is_matrix:
                sums[f"init_grad_norm.{parameters.kinds[kind]}"][block] += square
    return {name: [math.sqrt(square) for square in of_blocks] for name, of_blocks in sums.items()}


@contextlib.contextmanager
def leaving_no_trace(network: nn.Module) -> Iterator[None]:
    """Forward and backward passes within change no buffer and no random number, and leave no gradient."""
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    device = next(network.parameters()).device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        network.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
