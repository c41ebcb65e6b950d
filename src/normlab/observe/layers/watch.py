"""Hooks where the quantities live, only while a look lasts: they make the views and note what the statistics say.

SublayerView, StreamView  every sublayer; the stream that leaves each block
AttentionView             the product of queries and keys itself
UnitsView, Routing        the FFN's activation function; a router, of a sparse one
TanhView                  every DyT in a block
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from normlab.observe.layers.attention import AttentionView, attention_view
from normlab.observe.layers.found import Found
from normlab.observe.layers.registry import PROBES
from normlab.observe.layers.routing import Routing
from normlab.observe.layers.stream import StreamView, SublayerView
from normlab.observe.layers.units import TanhView, UnitsView

Hooks = Iterator[RemovableHandle]


def note(found: Found, kind: type, prefix: str, layer: int, view: Any, deep: bool = False) -> None:
    """Every statistic of a view of this ``kind``, under ``PREFIX.NAME``."""
    for name, statistic in PROBES[kind].items():
        if statistic.deep == deep and (value := statistic.function(view)) is not None:
            found.of_layer(f"{prefix}.{name}", layer, value)


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """In evaluation mode: a norm with running statistics must not learn from being watched."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def hooked(handles: Hooks) -> Iterator[None]:
    """Register what ``handles`` yields, and remove it in the end, whatever happens."""
    registered = []
    try:
        for handle in handles:
            registered.append(handle)
        yield
    finally:
        for handle in registered:
            handle.remove()


def watch(network: nn.Module, found: Found) -> Hooks:
    """Note every statistic of the next forward pass, layer by layer."""
    for layer, block in enumerate(network.blocks):  # type: ignore[arg-type]
        for kind in ("attn", "ffn"):
            yield from _sublayer(getattr(block, kind), kind, layer, found)
        yield _attention(block.attn.branch.attend, layer, found)
        yield from _units(block.ffn.branch, layer, found)
        if hasattr(block.ffn.branch, "router"):
            yield _router(block.ffn.branch, layer, found)
        for module in block.modules():
            if hasattr(module, "tanh_argument"):
                yield _tanh(module, layer, found)
        yield _stream(block, layer, found)


def _sublayer(sublayer: nn.Module, kind: str, layer: int, found: Found) -> Hooks:
    seen: dict[str, Tensor] = {}

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen["branch"], seen["sum"] = inputs[1], output

    def measure(module: nn.Module, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, object]) -> None:
        note(found, SublayerView, kind, layer, SublayerView(inputs[0], seen["branch"], seen["sum"], output[0]))

    yield sublayer.add.register_forward_hook(remember)  # type: ignore[union-attr]
    yield sublayer.register_forward_hook(measure)


def _stream(block: nn.Module, layer: int, found: Found) -> RemovableHandle:
    def measure(module: nn.Module, inputs: tuple[Tensor], output: tuple[Tensor, object]) -> None:
        note(found, StreamView, "stream", layer, StreamView(output[0]))

    return block.register_forward_hook(measure)


def _attention(attend: nn.Module, layer: int, found: Found) -> RemovableHandle:
    def measure(module: nn.Module, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        view = attention_view(inputs[0], inputs[1], module.window, module.softcap)  # type: ignore[arg-type]
        note(found, AttentionView, "attn", layer, view)

    return attend.register_forward_hook(measure)


def _units(ffn: Any, layer: int, found: Found) -> Hooks:
    gated = ffn.gate is not None
    project, slot = (ffn.gate, ffn.gate_norm) if gated else (ffn.up, ffn.up_norm)
    of_expert: dict[str, Any] = {}

    def assign(module: nn.Module, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        rows, ends = inputs  # sorted by expert; (E,): where each expert's rows end
        every = torch.arange(len(rows), device=rows.device)
        of_expert.update(expert=torch.searchsorted(ends.long(), every, right=True), experts=len(ends))

    def measure(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        view = UnitsView(output.flatten(0, -2).float(), ffn.activation, gated, **of_expert)
        note(found, UnitsView, "ffn", layer, view)

    if hasattr(ffn, "router"):
        yield project.register_forward_hook(assign)
    yield slot.register_forward_hook(measure)


def _router(ffn: nn.Module, layer: int, found: Found) -> RemovableHandle:
    def measure(module: nn.Module, inputs: tuple[Tensor], output: tuple[Tensor, Routing]) -> None:
        note(found, Routing, "ffn", layer, output[1])

    return ffn.register_forward_hook(measure)


def _tanh(norm: Any, layer: int, found: Found) -> RemovableHandle:
    def measure(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        note(found, TanhView, "norm", layer, TanhView(norm.tanh_argument(inputs[0])))

    return norm.register_forward_hook(measure)
