"""The first tensor that is not finite: planted in outputs, weights and gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist

from normlab import build_model, compose
from normlab.observe.layers import first_nonfinite

DRAWN = torch.randint(0, 64, (2, 17), generator=torch.Generator().manual_seed(0))
TOKENS, TARGETS = DRAWN[:, :-1], DRAWN[:, 1:]


def built(*overrides: str):
    return build_model(compose(["model=nano", "model.vocab_size=64", *overrides])).train()


@pytest.mark.parametrize("what", ["placement=pre", "placement=mhc", "model=moe_nano", "placement.weights=spectral"])
def test_a_healthy_network(what):
    model = built(what)
    assert first_nonfinite(model, TOKENS, TARGETS) is None
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_innermost_module_that_overflows():
    model = built("placement=pre")
    with torch.no_grad():
        for block in model.blocks:  # the first overflow counts, not the second
            block.ffn.branch.up.weight.mul_(1e30)
            block.ffn.branch.down.weight.mul_(1e30)
    found = first_nonfinite(model, TOKENS, TARGETS)
    assert (found["what"], found["module"], found["layer"]) == ("output", "blocks.0.ffn.branch.down", 1)


def test_a_nan_is_told_from_an_infinity():
    model = built("placement=pre")
    handle = model.blocks[1].attn.branch.v.register_forward_hook(lambda module, inputs, output: output * math.nan)
    assert first_nonfinite(model, TOKENS, TARGETS) == {
        "what": "output", "module": "blocks.1.attn.branch.v", "layer": 2, "kind": "nan"
    }  # fmt: skip
    handle.remove()
    model.final_norm.register_forward_hook(lambda module, inputs, output: output.abs() / 0)
    found = first_nonfinite(model, TOKENS, TARGETS)
    assert (found["module"], found["layer"], found["kind"]) == ("final_norm", None, "inf")


def test_a_weight_that_is_broken_already():
    model = built()
    with torch.no_grad():
        model.blocks[1].ffn.branch.down.weight[3, 4] = math.inf
    assert first_nonfinite(model, TOKENS, TARGETS) == {
        "what": "parameter", "module": "blocks.1.ffn.branch.down.weight", "layer": 2, "kind": "inf"
    }  # fmt: skip


class _Broken(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * math.nan


def test_a_gradient_behind_a_finite_loss():
    model = built("placement=pre")
    model.blocks[0].ffn.branch.down.register_forward_hook(lambda module, inputs, output: _Broken.apply(output))
    found = first_nonfinite(model, TOKENS, TARGETS)
    assert found == {"what": "gradient", "module": "blocks.0.ffn.branch.down.weight", "layer": 1, "kind": "nan"}


def test_several_processes_agree():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        test_a_weight_that_is_broken_already()
    finally:
        dist.destroy_process_group()
