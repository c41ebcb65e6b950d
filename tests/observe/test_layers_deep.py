"""The deep look against networks taken apart: gradients of the stream, layers left out, angles, growth."""

from __future__ import annotations

import math

import pytest
import torch

from normlab import build_model, compose
from normlab.observe.layers import probe_deep
from normlab.observe.layers.angular import angular_distances
from normlab.observe.layers.stream import StreamView
from normlab.observe.layers.tokens import effective_rank, stable_rank

DRAWN = torch.randint(0, 64, (2, 17), generator=torch.Generator().manual_seed(0))
TOKENS, TARGETS = DRAWN[:, :-1], DRAWN[:, 1:]


def built(layers: int, *overrides: str):
    return build_model(compose(["model=nano", f"model.n_layers={layers}", "model.vocab_size=64", *overrides]))


@pytest.mark.parametrize(
    "what", ["placement=pre", "placement=hybrid", "placement=post", "placement=mhc", "model=moe_nano"]
)
def test_leaving_a_block_out_is_a_network_without_it(what):
    model, smaller = built(3, what), built(2, what)
    found = probe_deep(model, TOKENS, TARGETS)["removal_loss"]
    with torch.no_grad():
        loss = model(TOKENS, TARGETS).item()
        for layer in range(3):
            rest = [block for number, block in enumerate(model.blocks) if number != layer]
            state = {name: v for name, v in model.state_dict().items() if not name.startswith("blocks.")}
            for number, block in enumerate(rest):
                state |= {f"blocks.{number}.{name}": v for name, v in block.state_dict().items()}
            smaller.load_state_dict(state)
            assert found[layer] == pytest.approx(smaller(TOKENS, TARGETS).item() - loss, abs=2e-6)


def test_a_block_that_does_nothing_is_not_missed():
    model = built(3, "placement=pre")
    with torch.no_grad():
        for name in ("attn.branch.o", "ffn.branch.down"):
            model.blocks[1].get_submodule(name).weight.zero_()
    found = probe_deep(model, TOKENS, TARGETS)
    assert found["removal_loss"][1] == 0
    assert found["angular_distance"][1][0] == pytest.approx(0, abs=1e-7)
    assert found["stream.grad_norm"][1] == pytest.approx(found["stream.grad_norm"][0], rel=1e-5)


@pytest.mark.parametrize("placement", ["pre", "post", "siamese"])
def test_gradients_of_the_stream_block_by_block(placement):
    model = built(3, f"placement={placement}").double()
    found = probe_deep(model, TOKENS, TARGETS)
    x = model.enter(TOKENS).detach()
    means = []
    for layer, block in enumerate(model.blocks):
        x = block(x)[0].detach().requires_grad_()
        y = x
        for later in model.blocks[layer + 1 :]:
            y, _ = later(y)
        (gradient,) = torch.autograd.grad(model.losses(model.hidden(y), TARGETS)[0], x)
        assert found["stream.grad_norm"][layer] == pytest.approx(gradient.norm().item(), rel=1e-5)
        means.append((x.detach().mean((-3, -2)).norm().item(), gradient.mean((-3, -2)).norm().item()))
    for name, (first, last) in zip(("activation", "gradient"), zip(means[0], means[-1], strict=True), strict=True):
        assert found[f"growth.{name}"] == pytest.approx(math.log(last / first) / 3, rel=1e-4)


def test_ranks_and_angles_of_the_streams_that_leave():
    model = built(3, "placement=hybrid")
    found = probe_deep(model, TOKENS, TARGETS)
    states = [model.enter(TOKENS)]
    with torch.no_grad():
        for block in model.blocks:
            states.append(block(states[-1])[0])
    assert found["stream.effective_rank"] == pytest.approx([effective_rank(StreamView(x)).item() for x in states[1:]])
    assert found["stream.stable_rank"] == pytest.approx([stable_rank(StreamView(x)).item() for x in states[1:]])
    for l, row in enumerate(found["angular_distance"]):
        assert len(row) == 3
        for n, value in enumerate(row, start=1):
            if l + n > 3:
                assert math.isnan(value)
                continue
            a, b = states[l][:, -1].double(), states[l + n][:, -1].double()
            cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
            assert value == pytest.approx((cosine.arccos() / math.pi).mean().item(), rel=1e-6)


def test_angles_that_are_known():
    def state(*last: float) -> torch.Tensor:
        return torch.tensor([[[9.0, 9.0], last]])  # only the last token counts

    right, up, left = state(2.0, 0.0), state(0.0, 1.0), state(-1.0, 0.0)
    (first, second) = angular_distances([right, up, left]).tolist()
    assert first == pytest.approx([0.5, 1.0])
    assert second[0] == pytest.approx(0.5) and math.isnan(second[1])
    assert angular_distances([right, 5 * right])[0, 0].item() == pytest.approx(0, abs=1e-7)
