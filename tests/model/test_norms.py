"""Norm types against torch's own and against their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from normlab.config.schema import NormConfig
from normlab.errors import UserError
from normlab.model.norms import NORMS, build_norm

X = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 1
GAIN = torch.rand(16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5


def built(name: str) -> torch.nn.Module:
    module = build_norm(NormConfig(name=name, eps=1e-3), 16).double()
    if getattr(module, "weight", None) is not None:
        module.weight.data = GAIN.clone()
    return module


def test_rmsnorm_equals_torch():
    torch.testing.assert_close(built("rmsnorm")(X), F.rms_norm(X, (16,), GAIN, 1e-3))


def test_layernorm_equals_its_formula():
    module = built("layernorm")
    module.bias.data = GAIN.flip(0)
    mean, var = X.mean(-1, keepdim=True), X.var(-1, keepdim=True, correction=0)
    torch.testing.assert_close(module(X), GAIN * (X - mean) / (var + 1e-3).sqrt() + GAIN.flip(0))


def test_layernorm_nobias_has_no_bias():
    assert [name for name, _ in built("layernorm_nobias").named_parameters()] == ["weight"]


@pytest.mark.parametrize("name", sorted(set(NORMS) - {"none"}))
def test_scale_of_the_input_does_not_matter(name):
    module = build_norm(NormConfig(name=name, eps=1e-12), 16).double()
    torch.testing.assert_close(module(X), module(1000 * X))


@pytest.mark.parametrize("name", sorted(NORMS))
def test_bfloat16_in_bfloat16_out_with_float32_statistics(name):
    module = build_norm(NormConfig(name=name), 16)
    y = module(X.bfloat16() * 1e4)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), module(X.bfloat16().float() * 1e4), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", sorted(NORMS))
def test_without_affine_there_are_no_parameters(name):
    assert not list(build_norm(NormConfig(name=name), 16, affine=False).parameters())


def test_gain_sets_the_initial_scale():
    assert torch.equal(build_norm(NormConfig(), 4, gain=0.25).weight, torch.full((4,), 0.25))


def test_an_unknown_type_is_one_line():
    with pytest.raises(UserError, match="unknown norm 'rmsnrom'; did you mean 'rmsnorm'"):
        build_norm(NormConfig(name="rmsnrom"), 4)
