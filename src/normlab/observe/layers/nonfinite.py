"""Where a network's numbers stop being finite: one instrumented pass, when a run has diverged."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from normlab.observe.layers.watch import evaluating, hooked
from normlab.observe.shards import local

_KINDS = {1: "inf", 2: "nan"}


def first_nonfinite(network: nn.Module, tokens: Tensor, targets: Tensor) -> dict[str, Any] | None:
    """The first tensor that is not finite when ``tokens`` and ``targets`` (B, T) go through the network; None if all
    are.

    Returns ``what``, its ``module``, the 1-based ``layer`` or None, and ``kind``, "nan" or "inf". ``what`` is

    parameter   a weight is not finite before anything is computed; ``module`` is its name
    output      of ``module``: the first in the order of the forward pass, of nested ones the innermost; ``loss`` where
                nothing before the loss is
    gradient    all of the forward pass is finite, and the gradient of the loss by the parameter named ``module`` is
                not: of those the last in the network, the nearest to the loss

    In the caller's precision; in evaluation mode, restored after. No parameter's ``.grad`` is touched. Where there are
    several processes all take part, each with its tokens, and all get the same answer.
    """
    codes: dict[tuple[str, str], Tensor] = {}
    named = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    for name, weight in zip(named, local(named.values()), strict=True):
        codes["parameter", name] = _code(weight)
    with evaluating(network), torch.enable_grad():
        with hooked(_note_outputs(network, codes)):
            loss = network(tokens, targets)
        codes["output", "loss"] = _code(loss)
        # None of a parameter that is sharded: the graph knows only what was gathered of it.
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    for name, gradient in reversed([*zip(named, gradients, strict=True)]):
        if gradient is not None:
            codes["gradient", name] = _code(gradient)
    values = torch.stack(list(codes.values()))
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    for (what, name), value in zip(codes, values.tolist(), strict=True):
        if value:
            block = re.match(r"blocks\.(\d+)\.", name)
            layer = int(block[1]) + 1 if block else None
            return {"what": what, "module": name, "layer": layer, "kind": _KINDS[value]}
    return None


def _code(x: Tensor) -> Tensor:
    """0: finite, 1: an infinity and no nan, 2: a nan. On the device."""
    x = x.detach()
    return torch.maximum(x.isinf().any(), 2 * x.isnan().any())


def _note_outputs(network: nn.Module, codes: dict[tuple[str, str], Tensor]) -> Iterator[RemovableHandle]:
    """The code of what every module returns, inner modules before the one that they are part of.

    A module that several share has no place of its own: what is wrong there shows in the next.
    """
    places = [(name, module) for name, module in network.named_modules(remove_duplicate=False) if name]
    shared = Counter(id(module) for _, module in places)
    for name, module in places:
        if shared[id(module)] == 1:

            def measure(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                codes["output", name] = _code(output[0] if isinstance(output, tuple) else output)

            yield module.register_forward_hook(measure)
