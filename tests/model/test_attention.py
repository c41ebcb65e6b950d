"""Attention's options one at a time: who sees whom, soft caps, what turns and how far. Against equations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from normlab.config.architecture import ModelConfig
from normlab.config.schema import NormConfig
from normlab.model.attend import Attend, visible, written_out
from normlab.model.attention import Attention, build_rotaries
from normlab.model.rotary import Rotary
from normlab.placement.resolve import ResolvedSublayer

B, T, H, KV, DH = 2, 11, 4, 2, 8


def qkv(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    heads = (H, KV, KV)
    return [torch.randn(B, T, h, DH, generator=generator, dtype=torch.float64).to(dtype) for h in heads]


def by_hand(q, k, v, window, cap):
    """Row by row over what a position may see: causality by construction."""
    out = torch.empty_like(q)
    for h in range(H):
        g = h // (H // KV)
        for i in range(T):
            seen = slice(max(0, i - (window or T) + 1), i + 1)
            z = torch.einsum("bd,btd->bt", q[:, i, h], k[:, seen, g]) / math.sqrt(DH)
            z = z if cap is None else cap * torch.tanh(z / cap)
            out[:, i, h] = torch.einsum("bt,btd->bd", z.softmax(-1), v[:, seen, g])
    return out


@pytest.mark.parametrize("cap", [None, 0.7])
@pytest.mark.parametrize("window", [None, 1, 4, T, 2 * T])
def test_attend_equals_the_equation(window, cap):
    q, k, v = qkv()
    torch.testing.assert_close(Attend(window, cap)(q, k, v), by_hand(q, k, v, window, cap), rtol=1e-12, atol=1e-12)


def test_a_window_counts_the_position_itself():
    rows = visible(5, 2, torch.device("cpu")).int().tolist()
    assert rows == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]


def test_a_large_cap_changes_nothing():
    q, k, v = qkv()
    torch.testing.assert_close(Attend(softcap=1e8)(q, k, v), Attend()(q, k, v), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cap", [None, 0.7])
@pytest.mark.parametrize("window", [None, 1, 30, 64, 100])
@pytest.mark.parametrize("length", [64, 65, 150, 700])
def test_written_out_in_blocks_equals_the_kernel(length, window, cap):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, h, length, DH, generator=generator, dtype=torch.float64) for h in (H, KV, KV))
    seen = visible(length, window, q.device)
    if cap is None:
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    else:
        keys, values = (t.repeat_interleave(H // KV, 1) for t in (k, v))
        logits = cap * torch.tanh(q @ keys.transpose(-1, -2) / math.sqrt(DH) / cap)
        expected = logits.masked_fill(~seen, -math.inf).softmax(-1) @ values
    torch.testing.assert_close(written_out(q, k, v, window, cap), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cap", [None, 50.0])
@pytest.mark.parametrize("window", [None, 4])
def test_short_bfloat16_on_a_cpu_is_as_close_as_bfloat16_is(window, cap):
    q, k, v = qkv(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y = Attend(window, cap)(q, k, v)
    assert y.dtype == torch.bfloat16
    exact = Attend(window, cap)(q.double(), k.double(), v.double())
    assert (y.double() - exact).norm() < 2**-8 * exact.norm()


def test_large_logits_are_not_rounded_to_bfloat16():
    q, k, v = (t.transpose(1, 2) for t in qkv(torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        y = written_out(50 * q, k, v, None, None)
    exact = written_out((50 * q).double(), k.double(), v.double(), None, None)
    assert (y.double() - exact).norm() < 2**-9 * exact.norm()


@pytest.mark.parametrize("cap", [None, 0.7])
@pytest.mark.parametrize("window", [None, 4])
def test_written_out_s_gradients(window, cap):
    """Attention that rounds on its way back is tested at full width, where nothing rounds."""
    inputs = [t.transpose(1, 2).requires_grad_() for t in qkv()]
    assert torch.autograd.gradcheck(lambda q, k, v: written_out(q, k, v, window, cap), inputs)


@pytest.mark.parametrize("window", [None, 4])
def test_short_bfloat16_s_gradients_are_as_close_as_the_kernel_s(window):
    """To the exact gradient of the same rounded inputs, beside the fused kernel in bfloat16."""
    rounded = [t.transpose(1, 2) for t in qkv(torch.bfloat16)]
    weights = torch.randn(B, H, T, DH, generator=torch.Generator().manual_seed(1))
    seen = visible(T, window, weights.device)

    def gradients(attend, dtype):
        inputs = [t.to(dtype).requires_grad_() for t in rounded]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = attend(*inputs)
        (y * weights.to(y.dtype)).sum().backward()
        return [t.grad.double() for t in inputs]

    def kernel(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)

    exact = gradients(kernel, torch.float64)
    ours = gradients(lambda q, k, v: written_out(q, k, v, window, None), torch.bfloat16)
    theirs = gradients(kernel, torch.bfloat16)
    for name, e, o, t in zip("qkv", exact, ours, theirs, strict=True):
        assert (o - e).norm() < max(1.5 * (t - e).norm(), 2**-9 * e.norm()), name


def test_plainly_causal_is_the_kernel_s_own_path():
    """Bit for bit: what was measured with it stays measured."""
    q, k, v = qkv(torch.float32)
    turned = [t.transpose(1, 2) for t in (q, k, v)]
    expected = F.scaled_dot_product_attention(*turned, is_causal=True, enable_gqa=True).transpose(1, 2)
    for attend in (Attend(), Attend(window=T)):
        torch.testing.assert_close(attend(q, k, v), expected, rtol=0, atol=0)


@pytest.mark.parametrize("cap", [None, 0.7])
@pytest.mark.parametrize("window", [None, 4])
def test_one_graph_under_compile(window, cap):
    q, k, v = qkv()
    compiled = torch.compile(Attend(window, cap), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(q, k, v), Attend(window, cap)(q, k, v), rtol=0, atol=0)


def turned_by_hand(x, n, theta, pairs, factor):
    """RoPE by complex numbers, position by position, on the first n channels."""
    y = x.clone()
    for position in range(T):
        for j in range(n // 2):
            a, b = (2 * j, 2 * j + 1) if pairs == "interleaved" else (j, j + n // 2)
            angle = position / factor * theta ** (-2 * j / n)
            z = torch.complex(x[:, position, :, a], x[:, position, :, b]) * complex(math.cos(angle), math.sin(angle))
            y[:, position, :, a], y[:, position, :, b] = z.real, z.imag
    return y


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("pairs", ["half", "interleaved"])
@pytest.mark.parametrize(("share", "n"), [(1.0, 8), (0.5, 4), (0.25, 2), (0.8, 6)])
@pytest.mark.parametrize("factor", [1.0, 8.0])
def test_rotary_equals_the_equation(pairs, share, n, factor):
    x = qkv()[0]
    rotary = Rotary(DH, 100.0, 2 * T, share, pairs, factor)
    torch.testing.assert_close(rotary(x), turned_by_hand(x, n, 100.0, pairs, factor), rtol=1e-12, atol=1e-12)


def test_rotary_s_default_has_not_moved():
    """Bit for bit: x cos + rotate(x) sin with tables made in float64."""
    x = qkv(torch.float32)[0]
    frequency = 10000.0 ** (-torch.arange(0, DH, 2, dtype=torch.float64) / DH)
    angle = torch.outer(torch.arange(T, dtype=torch.float64), frequency).repeat(1, 2)
    a, b = x.chunk(2, dim=-1)
    expected = x * angle.cos().float()[:, None] + torch.cat((-b, a), -1) * angle.sin().float()[:, None]
    torch.testing.assert_close(Rotary(DH, 10000.0, T)(x), expected, rtol=0, atol=0)


SHAPE = {"n_layers": 4, "d_model": 32, "n_heads": H, "n_kv_heads": KV}


def test_layers_share_their_tables():
    everywhere = build_rotaries(ModelConfig(**SHAPE, window=4, global_every=2), T)
    assert len({id(everywhere(layer)) for layer in range(1, 5)}) == 1
    two = build_rotaries(ModelConfig(**SHAPE, window=4, global_every=2, rope_theta_local=7.0), T)
    assert two(1) is two(3) and two(2) is two(4) and two(1) is not two(2)
    assert build_rotaries(ModelConfig(**SHAPE, position="learned"), T)(1) is None


@pytest.mark.usefixtures("float64")
def test_local_layers_turn_by_their_own_theta_and_are_not_interpolated():
    model = ModelConfig(**SHAPE, window=4, global_every=2, rope_theta=1e6, rope_theta_local=100.0, rope_factor=8.0)
    rotary, x = build_rotaries(model, T), qkv()[0]
    expected = {1: turned_by_hand(x, DH, 100.0, "half", 1.0), 2: turned_by_hand(x, DH, 1e6, "half", 8.0)}
    for layer, y in expected.items():
        torch.testing.assert_close(rotary(layer)(x), y, rtol=1e-12, atol=1e-12)


def attention(layer=1, **model):
    config = ModelConfig(**SHAPE, **model)
    return Attention(config, ResolvedSublayer(), NormConfig(), layer, build_rotaries(config, T)(layer))


def test_every_kth_layer_is_global():
    windows = [attention(layer, window=4, global_every=2).attend.window for layer in range(1, 5)]
    assert windows == [4, None, 4, None]
    assert attention(3, window=4).attend.window == 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ""),
        ({"bias": True}, "qkvo"),
        ({"qkv_bias": True}, "qkv"),
        ({"bias": True, "qkv_bias": False}, "o"),
        ({"bias": True, "qkv_bias": False, "o_bias": False}, ""),
        ({"o_bias": True}, "o"),
    ],
)
def test_biases(given, expected):
    module = attention(**given)
    assert "".join(name for name in "qkvo" if getattr(module, name).bias is not None) == expected


def test_heads_may_be_wider_together_than_the_stream():
    module = attention(head_dim=16)
    shapes = {name: tuple(getattr(module, name).weight.shape) for name in "qkvo"}
    assert shapes == {"q": (64, 32), "k": (32, 32), "v": (32, 32), "o": (32, 64)}
    assert module(torch.randn(B, T, 32)).shape == (B, T, 32)
