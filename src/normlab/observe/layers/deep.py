"""The deep look: what costs a backward pass, a decomposition, or a forward pass for every layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from normlab.observe.depth import growth_exponent
from normlab.observe.layers.angular import angular_distances
from normlab.observe.layers.found import Found
from normlab.observe.layers.stream import StreamView
from normlab.observe.layers.tokens import mean_norm
from normlab.observe.layers.watch import evaluating, hooked, note


def probe_deep(network: nn.Module, tokens: Tensor, targets: Tensor) -> dict[str, Any]:
    """``tokens`` and ``targets`` (B, T). Returns, besides the deep statistics of the stream that leaves each block:

    stream.grad_norm   ||dl/dx|| of the loss by that stream, over the whole batch
    stream.grad_mean_norm   ... by the mean of all its tokens' vectors, as ``stream.mean_norm`` of the gradient
    growth.activation, growth.gradient   OLMo 2's growth exponents of the two mean norms, numbers: lambda =
                       ln(||v_L|| / ||v_1||) / L (arXiv 2501.00656, section 3.2)
    angular_distance   a matrix: see ``angular_distances``
    removal_loss       the loss without each block, less the loss: what the block is good for. The whole block is left
                       out, its norms too, and what enters it goes on as it is: Curse of Depth (arXiv 2502.05795). Of a
                       post-norm or hybrid placement the next block then reads what another block's norm has left.

    No parameter's ``.grad`` is touched.
    """
    found = Found(len(network.blocks))  # type: ignore[arg-type]
    with evaluating(network):
        states: list[Tensor] = []
        with torch.enable_grad(), hooked(_remember(network, states)):
            loss = network(tokens, targets)
            gradients = torch.autograd.grad(loss, states[1:])
        with torch.no_grad():
            streams = [StreamView(state.detach()) for state in states]
            slopes = [StreamView(gradient) for gradient in gradients]
            for layer, (stream, slope) in enumerate(zip(streams[1:], slopes, strict=True)):
                note(found, StreamView, "stream", layer, stream, deep=True)
                found.of_layer("stream.grad_norm", layer, torch.linalg.vector_norm(slope.vectors))
                found.of_layer("stream.grad_mean_norm", layer, mean_norm(slope))
            found.of_network("angular_distance", angular_distances([stream.vectors for stream in streams]))
            without = [_loss_without(block, network, tokens, targets) for block in network.blocks]  # type: ignore[union-attr]
            found.of_network("removal_loss", torch.stack(without) - loss)
    row = found.read()
    for name, profile in (("activation", "mean_norm"), ("gradient", "grad_mean_norm")):
        row[f"growth.{name}"] = growth_exponent(row[f"stream.{profile}"])
    return row


def _remember(network: nn.Module, states: list[Tensor]) -> Iterator[RemovableHandle]:
    def enters(module: nn.Module, inputs: tuple[Tensor]) -> None:
        states.append(inputs[0])

    def leaves(module: nn.Module, inputs: tuple[Tensor], output: tuple[Tensor, object]) -> None:
        states.append(output[0])

    first, *_ = network.blocks  # type: ignore[misc]
    yield first.register_forward_pre_hook(enters)
    for block in network.blocks:  # type: ignore[union-attr]
        yield block.register_forward_hook(leaves)


def _loss_without(block: nn.Module, network: nn.Module, tokens: Tensor, targets: Tensor) -> Tensor:
    def pass_on(module: nn.Module, inputs: tuple[Tensor], output: tuple[Tensor, object]) -> tuple[Tensor, object]:
        return inputs[0], output[1]

    with hooked(iter([block.register_forward_hook(pass_on)])):
        return network(tokens, targets)
