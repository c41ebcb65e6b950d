"""Dead and saturated units against counts by hand, for every kind of FFN, sparse ones by expert."""

from __future__ import annotations

import pytest
import torch

from normlab import build_model, compose
from normlab.model.ffn import ACTIVATIONS
from normlab.model.norms.bounded import DyT
from normlab.observe.layers import PROBES, probe_activations
from normlab.observe.layers.registry import Probe
from normlab.observe.layers.units import (
    TanhView,
    UnitsView,
    dead_units,
    dyt_saturation,
    gate_saturation,
    low_fraction,
    zero_fraction,
)  # fmt: skip

TOKENS = torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))
# Four units, two rows: always below -3, once, beyond 3 once, never.
BEFORE = torch.tensor([[-4.0, -3.5, 3.5, 1.0], [-3.1, 2.0, 0.5, 0.1]])


def test_of_a_relu():
    view = UnitsView(BEFORE, ACTIVATIONS["relu"].function, gated=False)
    assert zero_fraction(view).item() == pytest.approx(3 / 8)
    assert dead_units(view).item() == pytest.approx(1 / 4)
    assert low_fraction(view) is None and gate_saturation(view) is None


def test_a_square_is_zero_earlier():
    before = torch.tensor([[1e-6, 1e-4]])
    assert zero_fraction(UnitsView(before, ACTIVATIONS["relu2"].function, gated=False)).item() == 0.5
    assert zero_fraction(UnitsView(before, ACTIVATIONS["relu"].function, gated=False)).item() == 0


@pytest.mark.parametrize(("kind", "gated"), [("gelu", False), ("gelu_tanh", False), ("swiglu", True), ("geglu", True)])
def test_of_a_smooth_kind(kind, gated):
    view = UnitsView(BEFORE, ACTIVATIONS[kind].function, gated)
    assert low_fraction(view).item() == pytest.approx(3 / 8)
    assert dead_units(view).item() == pytest.approx(1 / 4)
    assert zero_fraction(view) is None
    if gated:
        assert gate_saturation(view).item() == pytest.approx(4 / 8)
    else:
        assert gate_saturation(view) is None


def test_a_smooth_unit_is_dead_above_999_per_mille():
    before = torch.full((2000, 2), -5.0)
    before[:2, 0] = 0.0  # 99.9 %, not more
    before[:1, 1] = 0.0
    assert dead_units(UnitsView(before, torch.nn.functional.silu, gated=True)).item() == 0.5


def test_of_a_sparse_ffn_units_belong_to_their_expert():
    before = torch.tensor([[-1.0, 1.0], [-1.0, -1.0], [2.0, -1.0]])
    view = UnitsView(before, torch.relu, False, expert=torch.tensor([0, 0, 2]), experts=3)
    assert dead_units(view).item() == pytest.approx(
        2 / 4
    )  # expert 1 got no row; 0 is dead in its first, 2 in its second
    assert zero_fraction(view).item() == pytest.approx(4 / 6)


def test_every_row_of_a_sparse_ffn_is_of_the_expert_that_computed_it(monkeypatch):
    views: list[UnitsView] = []
    monkeypatch.setitem(PROBES[UnitsView], "seen", Probe(lambda view: views.append(view), deep=False))
    model = build_model(compose(["model=moe_nano", "model.vocab_size=64"]))
    found = probe_activations(model, TOKENS)
    with torch.no_grad():
        x = model.enter(TOKENS)
        for layer, block in enumerate(model.blocks):
            x, routing = block(x)
            rows = views[layer].expert.bincount(minlength=4)
            torch.testing.assert_close(rows / rows.sum(), routing.load)
    assert "ffn.seen" not in found


def test_the_argument_of_a_tanh():
    assert dyt_saturation(TanhView(torch.tensor([-2.5, 2.0, 0.0, 9.0]))).item() == 0.5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["relu", "swiglu"])
def test_what_is_not_finite_has_no_share(kind, bad):
    before = BEFORE.clone()
    before[1, 2] = bad
    view = UnitsView(before, ACTIVATIONS[kind].function, gated=kind == "swiglu")
    shares = [statistic(view) for statistic in (zero_fraction, low_fraction, dead_units, gate_saturation)]
    known = [share for share in shares if share is not None]
    assert len(known) >= 2 and all(share.isnan() for share in known)
    assert dyt_saturation(TanhView(before)).isnan()


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("size", ["nano", "moe_nano"])
def test_in_a_network(kind, size):
    model = build_model(compose([f"model={size}", "model.vocab_size=64", f"model.ffn={kind}", "model.bias=false"]))
    ffn = model.blocks[1].ffn.branch
    project = ffn.up if ffn.gate is None else ffn.gate
    quarter = project.weight.size(-2) // 4  # of the units; with an expert's axis before
    with torch.no_grad():
        project.weight[..., :quarter, :].zero_()
        project.weight[..., quarter:, :].mul_(1e3)
    found = probe_activations(model, TOKENS)
    smooth = not kind.startswith("relu") and not kind.startswith("reglu")
    assert ("ffn.low_fraction" in found) == smooth
    assert ("ffn.zero_fraction" in found) == (not smooth)
    assert ("ffn.gate_saturation" in found) == (kind in ("swiglu", "geglu"))
    assert len(found["ffn.dead_units"]) == 2
    if smooth:
        assert found["ffn.low_fraction"][1] == pytest.approx(0.375, abs=0.1)  # of 3/4, a half
        assert found["ffn.low_fraction"][0] == 0
        if kind in ("swiglu", "geglu"):
            assert found["ffn.gate_saturation"][1] == pytest.approx(0.75, abs=0.05)
    else:
        assert found["ffn.zero_fraction"][1] == pytest.approx(0.625, abs=0.1)
        assert found["ffn.dead_units"][1] == pytest.approx(0.25, abs=0.1)


def test_dyt_in_a_network_and_only_there():
    model = build_model(compose(["model=nano", "model.vocab_size=64", "placement=pre", "norm=dyt"]))
    with torch.no_grad():
        for module in model.blocks[1].modules():
            if isinstance(module, DyT):
                module.alpha.fill_(1e4)
    found = probe_activations(model, TOKENS)["norm.dyt_saturation"]
    assert found[0] == 0 and found[1] > 0.95
    plain = build_model(compose(["model=nano", "model.vocab_size=64", "placement=pre"]))
    assert "norm.dyt_saturation" not in probe_activations(plain, TOKENS)
