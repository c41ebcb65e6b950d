"""A look at whole networks: every placement and wiring, and that being watched changes nothing."""

from __future__ import annotations

import math

import pytest
import torch

from normlab import build_model, compose
from normlab.observe.layers import PROBES, probe, probe_activations, probe_deep
from normlab.observe.layers.stream import StreamView, SublayerView

DRAWN = torch.randint(0, 64, (2, 17), generator=torch.Generator().manual_seed(0))
TOKENS, TARGETS = DRAWN[:, :-1], DRAWN[:, 1:]


def built(*overrides: str):
    return build_model(compose(["model=nano", "model.vocab_size=64", *overrides]))


def look(model):
    return probe_activations(model, TOKENS)


def look_deep(model):
    return probe_deep(model, TOKENS, TARGETS)


LOOKS = pytest.mark.parametrize("look", [look, look_deep])


def rms(x: torch.Tensor) -> float:
    return x.square().mean().sqrt().item()


@pytest.mark.parametrize("placement", ["pre", "post", "hybrid_star", "sandwich"])
def test_rms_follows_the_residual_stream(placement):
    model = built(f"placement={placement}")
    found = look(model)
    with torch.no_grad():
        x = model.embed_norm(model.embed(TOKENS))
        for layer, block in enumerate(model.blocks):
            entry = x
            for kind in ("attn", "ffn"):
                sublayer = getattr(block, kind)
                branch = sublayer.out(sublayer.branch(sublayer.pre(x)))
                values = {"rms_in": rms(x), "rms_branch": rms(branch), "rms_sum": rms(x + branch)}
                values["branch_ratio"] = rms(branch) / rms(x)
                x, _ = sublayer(x, entry)
                values["rms_out"] = rms(x)
                for name, value in values.items():
                    assert found[f"{kind}.{name}"][layer] == pytest.approx(value, rel=1e-5), (name, layer)
            assert found["stream.max_abs"][layer] == pytest.approx(x.abs().max().item(), rel=1e-5)
            assert found["stream.variance"][layer] == pytest.approx(x.var(-1, correction=0).mean().item(), rel=1e-5)


PLACEMENTS = ["pre", "parallel", "mix_ln", "residual", "siamese_hybrid", "hyper_connections", "mhc", "ngpt"]
OTHERS = ["model=moe_nano", "model.attn_softcap=5", "model.ffn=relu2"]


@pytest.mark.parametrize("what", [*(f"placement={name}" for name in PLACEMENTS), *OTHERS])
def test_every_statistic_of_every_kind_of_network(what):
    model = built(what)
    row = look(model) | look_deep(model)
    numbers = {name for name, value in row.items() if isinstance(value, float)}
    matrices = {name for name, value in row.items() if isinstance(value, list) and isinstance(value[0], list)}
    assert numbers == {f"logits.{n}" for n in ("rms", "max", "mean", "log_z", "log_z_square")} | {
        "growth.activation", "growth.gradient"
    }  # fmt: skip
    assert matrices == {"angular_distance"}
    assert {f"stream.{name}" for name in PROBES[StreamView]} < set(row)
    assert {f"{kind}.{name}" for name in PROBES[SublayerView] for kind in ("attn", "ffn")} < set(row)
    for name in set(row) - numbers - matrices:
        assert len(row[name]) == 2 and all(math.isfinite(value) for value in row[name]), name
    assert all(math.isfinite(row[name]) for name in numbers)


def test_a_statistic_that_is_the_users_own():
    @probe("mean", of=StreamView)
    def mean(view: StreamView) -> torch.Tensor:
        return view.vectors.mean()

    try:
        assert len(look(built())["stream.mean"]) == 2
    finally:
        del PROBES[StreamView]["mean"]


def test_layers_without_a_quantity_have_nan():
    found = look(built("placement=pre", "placement.over={1:{attn:{pre:'n(type=dyt)'}}}"))["norm.dyt_saturation"]
    assert found[0] == 0 and math.isnan(found[1])


@LOOKS
def test_hooks_are_gone_afterwards_even_after_an_error(look, monkeypatch):
    model = built().train()
    model.blocks[0].eval()  # each module's own mode comes back
    look(model)

    def broken(view: object) -> torch.Tensor:
        raise RuntimeError("broken")

    for name, statistic in list(PROBES[StreamView].items()):
        monkeypatch.setitem(PROBES[StreamView], name, statistic._replace(function=broken))
    with pytest.raises(RuntimeError, match="broken"):
        look(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert model.training and model.blocks[1].ffn.training and not model.blocks[0].training


@LOOKS
@pytest.mark.parametrize(
    "what",
    [["norm=batchnorm", "norm.allow_noncausal=true"], ["norm=powernorm", "norm.allow_noncausal=true"],
     ["placement.weights=spectral"], ["placement=mhc"]],
)  # fmt: skip
def test_being_watched_changes_nothing(look, what):
    model = built(*what).train()
    model(TOKENS, TARGETS).backward()
    state = torch.get_rng_state()
    kept = {name: tensor.clone() for name, tensor in (*model.named_buffers(), *model.named_parameters())}
    grads = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    first, again = look(model), look(model)
    assert str(first) == str(again)  # nan, too
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in (*model.named_buffers(), *model.named_parameters()):
        assert torch.equal(tensor, kept[name]), name
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name not in grads)
        assert parameter.grad is None or torch.equal(parameter.grad, grads[name])


def test_a_look_is_one_transfer(monkeypatch):
    model, reads = built("placement=pre"), []
    for name in ("tolist", "item", "__float__", "__bool__"):
        original = getattr(torch.Tensor, name)

        def counted(self, *args, original=original):
            reads.append(self.numel())
            return original(self, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    row = look(model)
    asked = [n for n in reads if n == 1]  # an activation function is asked about one number on the host
    assert len(asked) == 2 and len(reads) == 3
    assert max(reads) == sum(len(value) if isinstance(value, list) else 1 for value in row.values())
