"""A step as a graph takes the same steps. Without a GPU the recording is a trace: it too holds nothing but operations
on memory, and whatever Python decided while it was made it decides for good."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from normlab import build_model, compose
from normlab.errors import UserError
from normlab.observe.updates import StepProbe
from normlab.training.graph import CudaRecorder, GraphedStep, Work
from normlab.training.hardware import Hardware
from normlab.training.optim import build_optimizer
from normlab.training.parallel import Parallel
from normlab.training.schedule import learning_rate
from normlab.training.step import TrainingStep

BATCHES = torch.randint(0, 64, (12, 4, 17), generator=torch.Generator().manual_seed(0))
SCHEDULED = "placement.attn.out=c(min(t/8, 1))"


class Tracer:
    """Records by tracing, which does the work once: what that changed is put back. As a graph does, it leaves what it
    finds in one place."""

    def __init__(self, step: TrainingStep) -> None:
        self._step = step
        self.recordings = 0

    def aside(self, work: Work) -> Tensor:
        return work()

    def record(self, work: Work) -> Work:
        self.recordings += 1
        kept = list(self._kept())
        before = [tensor.detach().clone() for tensor in kept]
        graph = make_fx(work, tracing_mode="real")()
        with torch.no_grad():
            for tensor, value in zip(kept, before, strict=True):
                tensor.copy_(value)
        place: list[Tensor] = []

        @torch.no_grad()
        def replay() -> Tensor:
            found = graph()
            if not place:
                place.append(found)
            return place[0].copy_(found)

        return replay

    def _kept(self) -> Iterator[Tensor]:
        yield from self._step.network.state_dict(keep_vars=True).values()
        for state in self._step.optimizer.state.values():
            yield from state.values()
        yield self._step._broken


def made(*overrides: str, graphed: bool, device: str = "cpu") -> TrainingStep:
    config = compose(["model=nano", "model.vocab_size=64", "train.batch_size=4", "optim.warmup_steps=5", *overrides])
    model = build_model(config).to(device)
    hardware = Hardware(torch.device(device), False, device == "cuda", graphed)
    return TrainingStep(model, build_optimizer(model, config.optim, graphed), hardware, config)


def trained(step: TrainingStep, take, probed: tuple[int, ...] = ()) -> list[Tensor]:
    """The scalars of every step, what was seen of those that were probed, and the weights at the end."""
    rows = []
    for number, batch in enumerate(BATCHES.to(step.hardware.device), 1):
        lr = learning_rate(step.config.optim, number, 200)
        probe = StepProbe(step.map) if number in probed else None
        rows.append(take(batch, lr, probe))
        if probe:
            rows.append(torch.tensor(probe.read()["update_rms_lr"]))
        step.network.set_step(number)
    return [*rows, *(p.detach() for p in step.network.parameters())]


@pytest.mark.parametrize(
    "overrides",
    [
        ("placement=hybrid",),
        (SCHEDULED, "train.z_loss=1e-3"),
        ("placement.weights=unit",),
        ("placement.weights=spectral",),
        ("train.micro_batch_size=2", "optim.grad_clip=0.1"),
        ("norm=batchnorm", "norm.allow_noncausal=true"),
    ],
    ids=lambda words: words[0],
)
def test_a_graph_follows_batch_rate_schedule_and_state(overrides):
    plain, recorded = made(*overrides, graphed=False), made(*overrides, graphed=True)
    tracer = Tracer(recorded)
    graphed = GraphedStep(recorded, tracer)
    expected = trained(plain, plain)
    found = trained(recorded, graphed)
    assert tracer.recordings == 1
    for one, other in zip(expected, found, strict=True):  # a rate in float32 is not quite the same rate
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_step_that_is_probed_is_taken_by_itself_and_the_graph_goes_on_behind_it():
    plain, recorded = made(graphed=False), made(graphed=True)
    probed = (1, 6, 9)
    expected = trained(plain, plain, probed)
    found = trained(recorded, GraphedStep(recorded, Tracer(recorded)), probed)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_graph_keeps_the_weights_of_a_run_that_broke():
    step = made(graphed=True)
    graphed = GraphedStep(step, Tracer(step))
    for batch in BATCHES[:6]:
        graphed(batch, 1e-3)
    with torch.no_grad():
        step.network.embed.weight[0] = float("nan")
    held = copy.deepcopy(step.network.state_dict())
    assert not graphed(BATCHES[6], 1e-3)[0].isfinite()
    with torch.no_grad():
        step.network.embed.weight[0] = 0.0  # whatever comes later
    graphed(BATCHES[7], 1e-3)
    for name, value in step.network.state_dict().items():
        assert torch.equal(value, held[name]) or name == "embed.weight"


def test_where_no_graph_can_be_made_the_run_goes_on_without(capsys):
    class Refuses(Tracer):
        def record(self, work: Work) -> Work:
            self._step.backward(BATCHES[0])  # as far as it got
            try:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
            finally:
                raise RuntimeError("operation failed due to a previous error during capture")

    plain, recorded = made(graphed=False), made(graphed=True)
    graphed = GraphedStep(recorded, Refuses(recorded))
    found = trained(recorded, graphed)
    assert not graphed.graphed
    torch.testing.assert_close(found, trained(plain, plain), rtol=1e-5, atol=1e-6)
    said = capsys.readouterr().out
    assert said.count("no CUDA graph") == 1 and "stream is capturing)" in said and "more" not in said


def test_experts_have_no_graph():
    with pytest.raises(UserError, match=r"cuda_graph=true is not for model\.n_experts.*leave it out"):
        compose(["model=nano", "model.n_experts=4", "train.cuda_graph=true"])


def test_a_probe_keeps_the_rate_of_its_own_step():
    step = made(graphed=True)
    probe = StepProbe(step.map)
    step(BATCHES[0], 1e-3, probe)
    step.set_lr(5e-4)
    plain = made(graphed=False)
    other = StepProbe(plain.map)
    plain(BATCHES[0], 1e-3, other)
    assert probe.read()["update_rms_lr"] == pytest.approx(other.read()["update_rms_lr"], rel=1e-4)


def test_several_processes_have_no_graph():
    config = compose(["model=nano", "model.vocab_size=64", "train.cuda_graph=true", "train.batch_size=4"])
    with pytest.raises(UserError, match=r"train\.cuda_graph=true is for a run on one process"):
        Parallel("ddp", 0, 2).check(config, build_model(config))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("overrides", [("placement=hybrid",), (SCHEDULED,)])
def test_on_a_gpu(overrides):
    plain, recorded = (made(*overrides, graphed=graphed, device="cuda") for graphed in (False, True))
    graphed = GraphedStep(recorded, CudaRecorder())
    expected = trained(plain, plain, probed=(6,))
    torch.testing.assert_close(trained(recorded, graphed, probed=(6,)), expected, rtol=1e-3, atol=1e-4)
    assert graphed.graphed
