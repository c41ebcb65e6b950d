"""The view of attention against the attention itself, and its statistics against cases that are known."""

from __future__ import annotations

import math

import pytest
import torch

from normlab.model.attend import Attend
from normlab.observe.layers.attention import attention_view, entropy, entropy_ratio, max_logit


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 3, 50])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("length", [11, 150])  # all rows, and some
def test_the_view_is_what_the_model_computes(softcap, window, kv_heads, length):
    draw = torch.Generator().manual_seed(0)
    q = 3 * torch.randn(2, length, 4, 8, generator=draw)
    k, v = (torch.randn(2, length, kv_heads, 8, generator=draw) for _ in "kv")
    attend = Attend(window, softcap)
    view = attention_view(q, k, attend.window, attend.softcap)
    values = v.repeat_interleave(4 // kv_heads, dim=2).transpose(1, 2)
    context = (view.weights @ values).transpose(1, 2)
    torch.testing.assert_close(context, attend(q, k, v)[:, view.rows], rtol=1e-4, atol=1e-5)


def test_attention_of_equal_keys_is_uniform():
    q, k = torch.randn(1, 8, 2, 4), torch.zeros(1, 8, 1, 4)
    view = attention_view(q, k)
    assert max_logit(view) == 0
    assert entropy(view).item() == pytest.approx(sum(math.log(i + 1) for i in range(8)) / 8)
    assert entropy_ratio(view).item() == pytest.approx(1.0)


def test_max_logit_is_causal_and_over_all_heads():
    q, k = torch.zeros(1, 3, 2, 4), torch.zeros(1, 3, 2, 4)
    q[0, 0, 1] = 2.0
    k[0, 2, 1] = 9.0  # the future of row 0: not seen
    k[0, 0, 1] = 1.0
    assert max_logit(attention_view(q, k)).item() == pytest.approx(2 * 4 / math.sqrt(4))


def test_one_hot_attention_has_no_entropy():
    q = torch.full((1, 4, 1, 2), 100.0)
    k = torch.zeros(1, 4, 1, 2)
    k[0, 0] = 100.0
    assert entropy_ratio(attention_view(q, k)).item() == pytest.approx(0.0, abs=1e-6)


def test_entropy_of_two_keys_by_hand():
    q, k = torch.ones(1, 2, 1, 1), torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1)
    row = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))  # weights 1/4, 3/4; the first row sees one key
    assert entropy(attention_view(q, k)).item() == pytest.approx(row / 2)
    assert entropy_ratio(attention_view(q, k)).item() == pytest.approx(row / math.log(2))


def test_a_long_sequence_is_sampled_to_its_last_row():
    view = attention_view(torch.randn(1, 300, 1, 4), torch.randn(1, 300, 1, 4))
    assert view.logits.shape == (1, 1, 128, 300)
    assert view.rows[-1] == 299


def test_a_window_and_a_soft_cap_are_seen():
    q, k = torch.randn(1, 8, 2, 4), torch.zeros(1, 8, 1, 4)
    view = attention_view(q, k, window=3)
    assert view.seen.tolist() == [1, 2, 3, 3, 3, 3, 3, 3]
    assert entropy(view).item() == pytest.approx((math.log(2) + 6 * math.log(3)) / 8)
    assert entropy_ratio(view).item() == pytest.approx(1.0)
    capped, raw = (attention_view(100 * q, 100 * q[:, :, :1], softcap=cap) for cap in (5.0, None))
    assert max_logit(capped) == max_logit(raw) > 100  # before the cap
    assert entropy(capped) > entropy(raw)  # behind it
