"""Gradients by block and kind, and the gradient at initialisation that is averaged before its norm is taken."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from normlab import build_model, compose
from normlab.observe.gradients import ParameterMap, dots, initial_gradients, leaving_no_trace, norms
from normlab.training.optim import build_optimizer

BATCHES = torch.randint(0, 64, (3, 4, 17), generator=torch.Generator().manual_seed(0))


def configured(*overrides: str):
    return compose(["model=nano", "model.vocab_size=64", "train.batch_size=4", "train.seq_len=16", *overrides])


def made(*overrides: str):
    network = build_model(configured(*overrides))
    return network, ParameterMap(network, 2)


def backward_of(network):
    def backward(batch: Tensor) -> None:
        network(batch[:, :-1], batch[:, 1:]).backward()

    return backward


def test_norms_and_dots_are_those_of_each_tensor():
    these, those = (
        [torch.tensor([[3.0, -4.0]]), torch.tensor([2.0])],
        [torch.tensor([[1.0, -1.0]]), torch.tensor([5.0])],
    )
    assert norms(these).tolist() == [5, 2]
    assert dots(these, those).tolist() == [7, 10]
    matrix = torch.arange(6.0).view(2, 3)
    assert dots([matrix.T], [matrix.T]).tolist() == [55]  # in whatever order the elements lie


def test_an_infinite_norm_stays_where_it_is():
    _, parameters = made()
    squares = torch.ones(len(parameters.parameters))
    squares[parameters.block.index(1)] = math.inf
    blocks, kinds = parameters.by_block_and_kind(squares)
    assert blocks.isfinite().tolist() == [True, False] and (~kinds.isfinite()).sum() == 1


@pytest.mark.parametrize(
    "overrides",
    [["placement=hybrid"], ["placement=mhc"], ["model.n_experts=4"], ["placement.weights=weight_norm"],
     ["placement.weights=spectral", "model.n_experts=4"], ["model.tie_embeddings=false", "model.head_bias=true"]],
    ids=" ".join,
)  # fmt: skip
def test_matrices_are_what_linear_layers_and_tables_hold_and_nothing_a_placement_adds(overrides):
    network, parameters = made(*overrides)
    names = [name for name, _ in network.named_parameters()]
    found = {name for name, is_matrix in zip(names, parameters.is_matrix, strict=True) if is_matrix}
    linear = ("q", "k", "v", "o", "up", "gate", "down", "router")
    last = "direction" if "weights" in overrides[0] else "weight"
    blocks = {f"blocks.{b}.{s}.branch.{m}.{last}" for b in (0, 1) for s in ("attn", "ffn") for m in linear}
    assert found == ({"embed.weight", f"head.{last}"} | blocks) & set(names)
    assert len(found) >= 1 + 2 * 7


@pytest.mark.parametrize(
    "overrides", [[], ["placement=hybrid"], ["placement=mhc"], ["model.n_experts=4"], ["placement.weights=weight_norm"]]
)
def test_the_gradient_is_averaged_before_its_norm_is_taken(overrides):
    network, parameters = made(*overrides)
    row = initial_gradients(backward_of(network), network, parameters, iter(BATCHES))
    named = dict(network.named_parameters())
    loss = sum(network(batch[:, :-1], batch[:, 1:]) for batch in BATCHES) / len(BATCHES)
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    mean = {name: g.double() for name, g in zip(named, gradients, strict=True) if g is not None}
    for block in range(2):
        whole = sum(g.square().sum() for name, g in mean.items() if name.startswith(f"blocks.{block}."))
        assert row["init_grad_norm"][block] == pytest.approx(math.sqrt(whole), rel=1e-4)
        for matrix in ("attn.q", "attn.o", "ffn.up", "ffn.down"):
            sublayer, name = matrix.split(".")
            g = next(g for n, g in mean.items() if n.startswith(f"blocks.{block}.{sublayer}.branch.{name}."))
            assert row[f"init_grad_norm.{matrix}"][block] == pytest.approx(g.norm().item(), rel=1e-4)
    kinds = {f"init_grad_norm.{m}" for m in ("attn.q", "attn.k", "attn.v", "attn.o", "ffn.up", "ffn.gate", "ffn.down")}
    router = {"init_grad_norm.ffn.router"} if "model.n_experts=4" in overrides else set()
    assert row.keys() == {"init_grad_norm"} | kinds | router and all(len(profile) == 2 for profile in row.values())


def test_an_average_over_batches_is_less_than_the_batches_are():
    network, parameters = made()
    one, all_three = (initial_gradients(backward_of(network), network, parameters, b) for b in (BATCHES[:1], BATCHES))
    assert all(
        mean < 0.9 * first for mean, first in zip(all_three["init_grad_norm"], one["init_grad_norm"], strict=True)
    )


def losses_after(*overrides: str, look: bool) -> tuple[list[float], Tensor]:
    network, parameters = made(*overrides)
    optimizer = build_optimizer(network, configured(*overrides).optim)
    torch.manual_seed(0)
    if look:
        initial_gradients(backward_of(network), network, parameters, BATCHES)
        assert all(p.grad is None for p in network.parameters())
    losses = []
    for batch in [*BATCHES, *BATCHES[:2]]:
        optimizer.zero_grad(set_to_none=True)
        loss = network(batch[:, :-1], batch[:, 1:])
        loss.backward()
        optimizer.step()
        network.after_update()
        losses.append(loss.item())
    state = [*network.parameters(), *network.buffers(), torch.get_rng_state().double()]
    return losses, torch.cat([tensor.detach().flatten().double() for tensor in state])


@pytest.mark.parametrize(
    "overrides",
    [[], ["norm=batchnorm", "norm.allow_noncausal=true"], ["model.n_experts=4"], ["placement.weights=spectral"]],
    ids=lambda overrides: " ".join(overrides) or "pre",
)
def test_looking_at_the_gradients_at_initialisation_changes_no_bit_of_the_run(overrides):
    (losses, state), (same, other) = losses_after(*overrides, look=True), losses_after(*overrides, look=False)
    assert losses == same and torch.equal(state, other)


def test_leaving_no_trace_undoes_random_numbers_and_buffers_after_an_error_too():
    network, _ = made("norm=batchnorm", "norm.allow_noncausal=true")
    random, buffers = torch.get_rng_state(), [buffer.clone() for buffer in network.buffers()]
    with pytest.raises(RuntimeError), leaving_no_trace(network):
        torch.randn(3)
        backward_of(network)(BATCHES[0])
        assert any(not torch.equal(a, b) for a, b in zip(network.buffers(), buffers, strict=True))
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), random) and all(p.grad is None for p in network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), buffers, strict=True))
