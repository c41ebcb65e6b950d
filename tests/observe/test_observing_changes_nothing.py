"""A run's numbers on a CPU are the same to the last bit whatever is observed of it, and however often."""

from __future__ import annotations

import pytest

import normlab
from normlab.config.identity import run_dir

OFF = ("observe.probe_every=1000", "observe.probe_at=[]", "observe.flush_every=1000")
ALL = ("observe.probe_every=1", "observe.flush_every=1", "observe.deep_at=[2,5]", "observe.probe_sequences=3")
SOMETIMES = ("observe.probe_every=3", "observe.probe_at=[1]", "observe.flush_every=4", "observe.init_batches=2")


def numbers(overrides: list[str]) -> tuple[str, dict, int]:
    """metrics.jsonl to the byte, what the run ends with, and how many looks it took."""
    config = normlab.compose(overrides)
    summary = normlab.train(config)
    probes = (run_dir(config) / "probes.jsonl").read_text().splitlines()
    ends = {key: summary[key] for key in ("final", "best_val_loss", "spikes", "clip_rate", "outcome")}
    return (run_dir(config) / "metrics.jsonl").read_text(), ends, len(probes)


def check(tiny, *words: str) -> None:
    how = ("train.steps=8", "eval.every=4", "checkpoint.every=5", *words)
    metrics, ends, looks = numbers(tiny("experiment=off", *OFF, *how))
    assert metrics.count('"grad_norm"') == 8 and looks == 2  # before the first step, after the last
    for name, settings, more in (("all", ALL, 9), ("sometimes", SOMETIMES, 5)):
        observed, observed_ends, observed_looks = numbers(tiny(f"experiment={name}", *settings, *how))
        assert observed_looks == more
        assert observed == metrics, f"{name}: observing changed a number"
        assert observed_ends == ends


@pytest.mark.parametrize(
    "words",
    [
        ["placement=pre"],
        ["placement=hybrid", "train.micro_batch_size=2"],
        ["placement=siamese"],
        ["model=moe_nano", "placement=hybrid_star"],
        ["norm=batchnorm", "norm.allow_noncausal=true"],  # running statistics, which a look must not move
        ["placement=post", "train.precision=bf16"],
    ],
    ids=lambda words: " ".join(words),
)
def test_eager(tiny, words: list[str]) -> None:
    check(tiny, *words)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["pre", "hybrid"])
def test_compiled(tiny, placement: str) -> None:
    check(tiny, f"placement={placement}", "train.compile=on")


def test_a_look_that_draws_a_number_is_found(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: a look that moves a weight by one bit changes what comes after it."""
    from normlab.training.loop import TrainingLoop

    honest = TrainingLoop.look

    def meddle(self: TrainingLoop, step: int, *rest) -> None:
        honest(self, step, *rest)
        next(self.network.parameters()).data.mul_(1 + 2**-20)

    monkeypatch.setattr(TrainingLoop, "look", meddle)
    with pytest.raises(AssertionError, match="observing changed a number"):
        check(tiny, "placement=pre")
