"""What a step does to the weights, against rotations and moments that are known and against float64 by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normlab import build_model, compose
from normlab.model.expert_linear import ExpertLinear
from normlab.observe.gradients import ParameterMap
from normlab.observe.updates import StepProbe
from normlab.training.optim import build_optimizer

TOKENS = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(0))
ADAM = {"adam_rms_group", "grad_over_eps_group", "dead_moments_group", "grad_near_eps"}


def stacked(*blocks: dict[str, Tensor]) -> nn.Module:
    """A network that is nothing but the matrices of its blocks' attention, by their names."""

    def linear(weight: Tensor) -> nn.Linear:
        layer = nn.Linear(weight.size(1), weight.size(0), bias=False)
        layer.weight = nn.Parameter(weight.float())
        return layer

    def block(matrices: dict[str, Tensor]) -> nn.ModuleDict:
        branch = nn.ModuleDict({name: linear(weight) for name, weight in matrices.items()})
        return nn.ModuleDict({"attn": nn.ModuleDict({"branch": branch})})

    return nn.ModuleDict({"blocks": nn.ModuleList([block(matrices) for matrices in blocks])})


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rotated(weight: Tensor, angle: float) -> Tensor:
    """The matrix turned by an angle, its norm the same."""
    other = random(*weight.shape, seed=1)
    across = other - (other * weight).sum() / weight.square().sum() * weight
    return math.cos(angle) * weight + math.sin(angle) * across * weight.norm() / across.norm()


def moved(network: nn.Module, n_layers: int, *new: Tensor) -> dict:
    """What the probe says when the weights become ``new``; the optimizer keeps no state."""
    probe = StepProbe(ParameterMap(network, n_layers))
    probe.before()
    with torch.no_grad():
        for parameter, weight in zip(network.parameters(), new, strict=True):
            parameter.copy_(weight)
    probe.after(torch.optim.SGD(network.parameters(), lr=0.1))
    return probe.read()


@pytest.mark.parametrize("angle", [1e-6, 1e-5, 1e-3, 0.5, 2.0, 3.0])
def test_a_rotation_is_measured_whatever_its_size(angle):
    weight = random(64, 32)
    row = moved(stacked({"q": weight}), 1, rotated(weight, angle))
    assert row["update_angle"] == [pytest.approx(angle, rel=5e-3 if angle < 1e-4 else 1e-4)]
    assert row["update_ratio"] == [pytest.approx(2 * math.sin(angle / 2), rel=5e-3 if angle < 1e-4 else 1e-4)]


def test_a_matrix_that_only_shrinks_does_not_turn():
    weight = random(64, 32)
    row = moved(stacked({"q": weight}), 1, 0.999 * weight)
    assert row["update_angle"][0] < 1e-7
    assert row["update_ratio"] == [pytest.approx(1e-3, rel=1e-3)]
    row = moved(stacked({"q": weight}), 1, -weight)
    assert row["update_angle"] == [pytest.approx(math.pi)]


def test_a_block_s_angle_is_the_median_of_its_matrices_and_a_matrix_of_zeros_has_none():
    weight, angles = random(16, 16), [0.01, 0.5, 0.02]
    network = stacked(dict.fromkeys("qkv", weight), {"q": weight, "k": torch.zeros(16, 16)}, {"q": torch.zeros(16, 16)})
    row = moved(network, 3, *[rotated(weight, angle) for angle in angles], rotated(weight, 0.1), weight, weight)
    assert row["update_angle"][:2] == [pytest.approx(0.02, rel=1e-3), pytest.approx(0.1, rel=1e-3)]
    assert math.isnan(row["update_angle"][2]) and row["update_ratio"][2] == math.inf


def test_quantiles_are_those_of_the_matrices_that_moved():
    weight = random(8, 8)
    network = stacked(*[{"q": weight}] * 6)
    sizes = [10.0**-k for k in range(1, 6)]
    row = moved(network, 6, *[weight * (1 + size) for size in sizes], weight)
    expected = np.quantile([-5, -4, -3, -2, -1], [0.1, 0.5, 0.9])
    assert list(row["update_log10"].values()) == pytest.approx(expected.tolist(), abs=1e-2)
    assert all(math.isnan(value) for value in moved(stacked({"q": weight}), 1, weight)["update_log10"].values())


def test_an_optimizer_without_second_moments_has_no_adam_diagnostics():
    weight = random(8, 8)
    assert not ADAM & moved(stacked({"q": weight}), 1, weight).keys()


def adam_steps(gradients: list[Tensor], **options) -> dict:
    """What the probe says of the last of these steps of AdamW on one matrix."""
    network = stacked({"q": random(*gradients[0].shape)})
    (weight,) = network.parameters()
    optimizer = torch.optim.AdamW([weight], **{"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.0, **options})
    for gradient in gradients:
        weight.grad = gradient.float()
        probe = StepProbe(ParameterMap(network, 1))
        probe.before()
        optimizer.step()
        probe.after(optimizer)
    return probe.read()


def test_the_first_step_of_adam_is_lr_on_every_element():
    row = adam_steps([random(8, 4)])
    assert row["update_rms_lr"] == [pytest.approx(1, rel=1e-3)]
    assert row["adam_rms_group"] == {"attn.q": pytest.approx(1, rel=1e-6)}
    assert row["dead_moments_group"] == {"attn.q": 0} and row["grad_near_eps"] == 0


def test_a_gradient_that_jumps_finds_the_second_moment_behind():
    one = torch.ones(4, 4)
    v = (1 - 0.95**3) * 0.95 + 0.05 * 100  # after three steps of 1 and one of 10, by hand
    expected = 10 / math.sqrt(v / (1 - 0.95**4))
    assert adam_steps([one, one, one, 10 * one])["adam_rms_group"]["attn.q"] == pytest.approx(expected, rel=1e-5)
    assert expected > 1.9


def test_moments_below_eps_are_dead_and_count_as_eps():
    gradient = torch.ones(4, 4)
    gradient[:, 0], gradient[:, 1] = 0, 1e-10
    row = adam_steps([gradient], eps=1e-8)
    assert row["dead_moments_group"] == {"attn.q": pytest.approx(0.5)}
    assert row["adam_rms_group"]["attn.q"] == pytest.approx(math.sqrt((8 * 1 + 4 * 1e-4) / 16), rel=1e-5)


@pytest.mark.parametrize(("factor", "near"), [(9.0, 1.0), (11.0, 0.0)])
def test_the_gradient_is_measured_against_eps(factor, near):
    row = adam_steps([torch.full((4, 4), factor * 1e-6)], eps=1e-6)
    assert row["grad_over_eps_group"] == {"attn.q": pytest.approx(factor)} and row["grad_near_eps"] == near


NETWORKS = [
    [],
    ["placement=hybrid"],
    ["placement=ngpt"],
    ["placement=mhc"],
    ["placement=siamese", "norm=layernorm"],
    ["model.n_experts=4", "placement=hybrid_star"],
    ["placement.weights=weight_norm"],
    ["placement.weights=spectral", "model.n_experts=4"],
    ["placement.weights=unit", "model.tie_embeddings=false"],
]


def configured(*overrides: str):
    return compose(["model=nano", "model.vocab_size=64", "train.batch_size=4", "train.seq_len=16", *overrides])


def train(*overrides: str, steps: int = 3, spoil: str | None = None, probing: bool = True):
    """Steps of AdamW; the row of the last, weights before and after it, gradients, optimizer. ``spoil``: the name of a
    parameter whose gradient becomes infinite at the last."""
    config = configured(*overrides)
    network = build_model(config)
    optimizer = build_optimizer(network, config.optim)
    losses, row = [], {}
    for step in range(1, steps + 1):
        optimizer.zero_grad(set_to_none=True)
        loss = network(TOKENS[:, :-1], TOKENS[:, 1:])
        loss.backward()
        named = dict(network.named_parameters())
        if spoil and step == steps:
            named[spoil].grad[0] = math.inf
        nn.utils.clip_grad_norm_(named.values(), 1.0)
        before = {name: p.detach().clone() for name, p in named.items()}
        probe = StepProbe(ParameterMap(network, config.model.n_layers))
        if probing:
            probe.before()
        optimizer.step()
        network.after_update()
        if probing:
            probe.after(optimizer)
            row = probe.read()
        losses.append(loss.item())
    return row, network, before, optimizer, losses


def matrices_of(network: nn.Module) -> dict[str, tuple[int, str]]:
    """Block and kind of each matrix of a branch, found by the modules and not by the names of parameters."""
    found = {}
    for path, module in network.named_modules():
        parts = path.split(".")
        if isinstance(module, nn.Linear | ExpertLinear) and parts[0] == "blocks" and parts[3:4] == ["branch"]:
            name = "direction" if hasattr(module, "direction") else "weight"
            found[f"{path}.{name}"] = (int(parts[1]), f"{parts[2]}.{parts[4]}")
    return found


@pytest.mark.parametrize("overrides", NETWORKS, ids=lambda overrides: " ".join(overrides) or "pre")
def test_every_number_is_that_of_float64_over_the_matrices(overrides):
    row, network, before, optimizer, _ = train(*overrides)
    after = dict(network.named_parameters())
    matrices = matrices_of(network)
    old = {name: before[name].double() for name in matrices}
    step = {name: after[name].detach().double() - old[name] for name in matrices}
    lr = optimizer.param_groups[0]["lr"]

    def close(value: float, squares: list[Tensor]) -> None:
        assert value == pytest.approx(math.sqrt(sum(squares)), rel=1e-4)

    for block in range(2):
        names = [name for name, (at, _) in matrices.items() if at == block]
        size = sum(old[name].numel() for name in names)
        weight = sum(old[name].square().sum() for name in names)
        close(row["update_ratio"][block], [step[name].square().sum() / weight for name in names])
        close(row["update_rms_lr"][block], [step[name].square().sum() / size / lr**2 for name in names])
        close(row["weight_rms"][block], [weight / size])
        cosines = [torch.cosine_similarity(old[n].flatten(), (old[n] + step[n]).flatten(), 0) for n in names]
        assert row["update_angle"][block] == pytest.approx(np.median([c.arccos().item() for c in cosines]), rel=1e-3)

    tables = {
        name: p.double() for name, p in before.items() if name in ("embed.weight", "head.weight", "head.direction")
    }
    everywhere = {**old, **tables}
    ratios = [(after[name].detach() - old).norm() / old.norm() for name, old in everywhere.items()]
    expected = np.quantile(torch.stack(ratios).log10(), [0.1, 0.5, 0.9])
    assert list(row["update_log10"].values()) == pytest.approx(expected.tolist(), abs=1e-4)

    kinds = {kind for _, kind in matrices.values()}
    assert kinds <= row["adam_rms_group"].keys() == row["weight_rms_group"].keys()
    for kind in kinds:
        names = [name for name, (_, of) in matrices.items() if of == kind]
        size = sum(old[name].numel() for name in names)
        close(row["weight_rms_group"][kind], [old[name].square().sum() / size for name in names])
        gradients = {name: after[name].grad.double() for name in names}
        close(row["grad_over_eps_group"][kind], [g.square().sum() / size / 1e-16 for g in gradients.values()])
        moments = {name: optimizer.state[after[name]]["exp_avg_sq"].double() / (1 - 0.95**3) for name in names}
        relative = [(gradients[n].square() / moments[n].clamp_min(1e-16)).sum() / size for n in names]
        close(row["adam_rms_group"][kind], relative)
        dead = sum((moments[n].sqrt() <= 1e-8).sum().item() for n in names) / size
        assert row["dead_moments_group"][kind] == pytest.approx(dead, abs=1e-6)


def test_an_infinite_gradient_is_found_in_its_block_and_nowhere_else():
    row, *_ = train("model.n_layers=3", spoil="blocks.1.ffn.branch.down.weight")
    for name in ("update_ratio", "update_angle", "update_rms_lr"):
        assert [math.isfinite(value) for value in row[name]] == [True, False, True], name
    assert all(map(math.isfinite, row["weight_rms"]))  # before the step
    for name in ("adam_rms_group", "grad_over_eps_group"):
        assert [kind for kind, value in row[name].items() if not math.isfinite(value)] == ["ffn.down"]
    assert all(map(math.isfinite, row["update_log10"].values()))


@pytest.mark.parametrize("overrides", [[], ["model.n_experts=4"], ["placement.weights=spectral"]])
def test_training_is_the_same_to_the_bit_with_and_without_a_probe(overrides):
    _, probed, _, _, losses = train(*overrides, steps=5)
    _, plain, _, _, same = train(*overrides, steps=5, probing=False)
    assert losses == same
    assert all(torch.equal(a, b) for a, b in zip(probed.parameters(), plain.parameters(), strict=True))


def test_before_and_after_look_at_no_number():
    """On torch's meta device, which holds none: whatever made the host wait for a value would fail."""
    with torch.device("meta"):
        network = build_model(configured("placement=hybrid"))
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter)
        state = {"step": torch.empty((), device="meta"), "exp_avg_sq": torch.empty_like(parameter)}
        optimizer.state[parameter] = state
    probe = StepProbe(ParameterMap(network, 2))
    probe.before()
    probe.after(optimizer)
    assert not hasattr(probe, "_copy")  # the copy of the weights does not outlive the step
    with pytest.raises(NotImplementedError, match="meta"):
        probe.read()


def test_a_matrix_that_adam_passes_over_says_nothing_of_its_moments():
    network = stacked({"q": random(4, 4), "k": random(4, 4)})
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    q, k = network.parameters()
    for gradients in ((torch.ones(4, 4), torch.ones(4, 4)), (torch.ones(4, 4), None)):
        q.grad, k.grad = gradients
        probe = StepProbe(ParameterMap(network, 1))
        probe.before()
        optimizer.step()
        probe.after(optimizer)
    row = probe.read()
    assert row["adam_rms_group"] == {"attn.q": pytest.approx(1)}
    assert row["weight_rms_group"].keys() == {"attn.q", "attn.k"}


def test_moments_of_an_optimizer_are_read_and_not_made():
    network = build_model(configured())
    optimizer = build_optimizer(network, configured().optim)
    probe = StepProbe(ParameterMap(network, 2))
    network(TOKENS[:, :-1], TOKENS[:, 1:]).backward()
    probe.before()
    probe.after(optimizer)  # which has made no step
    assert not optimizer.state and not ADAM & probe.read().keys()
