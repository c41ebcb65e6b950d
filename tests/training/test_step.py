"""The training step: its loss, its clipping, z-loss, and that watching it compiles nothing anew."""

from __future__ import annotations

import pytest
import torch

from normlab import build_model, compose
from normlab.observe.layers import probe_activations, probe_deep
from normlab.observe.updates import StepProbe
from normlab.training.hardware import Hardware
from normlab.training.optim import build_optimizer
from normlab.training.step import TrainingStep, objective


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()


TOKENS = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(0))


def configured(*overrides: str):
    return compose(["model=nano", "model.vocab_size=64", "train.batch_size=4", *overrides])


def made(*overrides: str, compiled: bool = False):
    config = configured(*overrides)
    model = build_model(config)
    hardware = Hardware(torch.device("cpu"), False, compiled)
    return model, TrainingStep(model, build_optimizer(model, config.optim), hardware, config)


def test_first_loss_and_norm_are_those_of_the_initial_network():
    model, step = made()
    loss = model(TOKENS[:, :-1], TOKENS[:, 1:])
    grads = torch.autograd.grad(loss, list(model.parameters()))
    norm = torch.sqrt(sum(g.square().sum() for g in grads))
    torch.testing.assert_close(step(TOKENS, 1e-3)[:2], torch.stack((loss.detach(), norm)))


def test_clipping_bounds_the_update_but_not_the_reported_norm():
    _, free = made("optim.grad_clip=null")
    _, clipped = made("optim.grad_clip=1e-6")
    torch.testing.assert_close(free(TOKENS, 1e-3)[1], clipped(TOKENS, 1e-3)[1])


def test_z_loss_penalises_log_z_and_is_not_in_the_reported_loss():
    model, _ = made()
    plain, loss = objective(model, configured())(TOKENS[:, :-1], TOKENS[:, 1:])
    penalised, reported = objective(model, configured("train.z_loss=0.1"))(TOKENS[:, :-1], TOKENS[:, 1:])
    log_z = model(TOKENS[:, :-1]).logsumexp(-1)
    torch.testing.assert_close(penalised - plain, 0.1 * log_z.square().mean())
    torch.testing.assert_close(reported, loss)


def test_a_sparse_network_adds_its_routers_losses_and_reports_them_apart():
    weights = ["model.balance_loss=0.3", "model.router_z_loss=0.2"]
    model, step = made("model.n_experts=4", *weights)
    routings, x = [], model.enter(TOKENS[:, :-1])
    for block in model.blocks:
        x, routing = block(x)
        routings.append(routing)
    loss = model(TOKENS[:, :-1], TOKENS[:, 1:])
    balance, z = (torch.stack([getattr(r, name) for r in routings]).mean() for name in ("balance", "z"))
    minimised, _ = objective(model, configured("model.n_experts=4", *weights))(TOKENS[:, :-1], TOKENS[:, 1:])
    torch.testing.assert_close(minimised, loss + 0.3 * balance + 0.2 * z)
    torch.testing.assert_close(step(TOKENS, 1e-3)[:3], torch.stack((loss, balance, z)).detach())


def test_warming_up_leaves_no_trace_in_running_statistics():
    model, step = made("norm=batchnorm", "norm.allow_noncausal=true")
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    step.warm_up(TOKENS)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    step(TOKENS, 1e-3)
    assert any(not torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


@pytest.mark.parametrize("world", [1, 2])
def test_a_loss_that_is_not_finite_freezes_the_weights_whatever_its_gradient(world):
    """But not those of one of several processes: only the gradient is the same for all."""
    model, step = made()
    step.parallel.world = world
    whole = step._objective

    def endless(tokens, targets):
        minimised, measured = whole(tokens, targets)
        return minimised, measured + float("inf")

    step._objective = endless
    before = [p.detach().clone() for p in model.parameters()]
    scalars = step(TOKENS, 1e-2)
    assert scalars[0].isinf() and scalars[1].isfinite()
    frozen = [torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
    assert all(frozen) if world == 1 else not any(frozen)


def test_unit_weights_stay_so():
    model, step = made("placement.weights=unit")
    step(TOKENS, 1e-2)
    for name, axis in (("q", 1), ("o", 0)):
        lengths = getattr(model.blocks[0].attn.branch, name).weight.norm(dim=axis)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


def test_a_schedule_follows_the_step_without_another_compilation():
    model, step = made("placement.attn.out=c(min(t/10, 1))", compiled=True)
    step.warm_up(TOKENS)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for t in (0, 5, 99):
        model.set_step(t)
        assert model.blocks[0].attn.out[0].weight.item() == min(t / 10, 1)
        step(TOKENS, 1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


def test_gradient_norms_by_block_and_kind():
    model, step = made()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = model(TOKENS[:, :-1], TOKENS[:, 1:])
    gradients = dict(zip(before, torch.autograd.grad(loss, list(model.parameters())), strict=True))
    (row,) = step.read([step(TOKENS, 1e-2)])
    norm = row.measured["grad_norm"]
    assert sum(value**2 for value in row.grad_norm_group.values()) == pytest.approx(norm**2, rel=1e-5)
    q = [gradients[f"blocks.{layer}.attn.branch.q.weight"].square().sum().item() for layer in range(2)]
    assert row.grad_norm_group["attn.q"] == pytest.approx(sum(q) ** 0.5, rel=1e-5)
    for layer in range(2):
        names = [name for name in before if name.startswith(f"blocks.{layer}.")]
        squares = sum(gradients[n].square().sum().item() for n in names)
        assert row.grad_norm[layer] == pytest.approx(squares**0.5, rel=1e-5)


def test_probing_neither_recompiles_nor_moves_a_random_number():
    model, step = made(compiled=True)
    step.warm_up(TOKENS)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    state = torch.get_rng_state()
    for _ in range(3):
        step(TOKENS, 1e-3, StepProbe(step.map))
        probe_activations(model, TOKENS)
        probe_deep(model, TOKENS[:, :-1], TOKENS[:, 1:])
        step(TOKENS, 1e-3)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled > 0
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("placement", ["pre", "hybrid", "olmo2", "parallel"])
def test_no_block_breaks_the_graph(placement):
    model, _ = made(f"placement={placement}")
    explanation = torch._dynamo.explain(model.blocks[0])(torch.randn(4, 16, 64))
    assert explanation.graph_count == 1 and explanation.graph_break_count == 0


def test_compiled_and_eager_take_the_same_step():
    steps = [made("placement=hybrid_star", compiled=compiled)[1] for compiled in (False, True)]
    for _ in range(3):
        torch.testing.assert_close(*(step(TOKENS, 1e-2) for step in steps), rtol=1e-4, atol=1e-4)


def test_a_constant_of_its_own_in_every_layer_is_one_compilation():
    _, step = made("placement=layernorm_scaling", "model.n_layers=6", compiled=True)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    step.warm_up(TOKENS)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before == 2  # a block and the end
