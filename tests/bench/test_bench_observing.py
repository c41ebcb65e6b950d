"""The contestants of the overhead benchmark train alike, and the naive one reads what it is said to read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from normlab import compose
from normlab.bench.measure import Spread
from normlab.bench.naive_hooks import NaiveTraining
from normlab.bench.observing import (
    EAGER,
    EVERYTHING,
    NAIVE,
    NONE,
    SCALARS,
    WAITS,
    added_by_scalars,
    count_waits,
    naive_cost,
    observed,
)  # fmt: skip
from normlab.bench.ours import OurTraining, random_tokens

TOY = [
    "model=nano", "model.vocab_size=61", "train.seq_len=16", "train.batch_size=4", "train.compile=off",
    "train.threads=1", "train.device=cpu", "train.steps=100", "optim.grad_clip=0.1", "wandb=disabled",
]  # fmt: skip


def make(kind: type[OurTraining], folder: Path) -> OurTraining:
    folder.mkdir()
    torch.manual_seed(0)
    config = compose(TOY)
    return kind(config, random_tokens(config, folder), folder)


def test_all_of_them_move_the_weights_alike(tmp_path: Path) -> None:
    plain, ours, everything = (make(OurTraining, tmp_path / name) for name in ("plain", "ours", "everything"))
    naive = make(NaiveTraining, tmp_path / "naive")
    assert isinstance(naive, NaiveTraining)
    plain.train_unobserved(3)
    ours.train(3)
    everything.look(3)
    naive.train_naively(3)
    for other in (ours, everything, naive):
        for expected, found in zip(plain.network.parameters(), other.network.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    rows = [json.loads(line) for line in (tmp_path / "ours" / "metrics.jsonl").read_text().splitlines()]
    by_hooks = [json.loads(line) for line in (tmp_path / "naive" / "naive.jsonl").read_text().splitlines()]
    for row, hooked in zip(rows, by_hooks, strict=True):
        assert (row["step"], row["loss"], row["grad_norm"]) == pytest.approx(
            (hooked["step"], hooked["loss"], hooked["grad_norm"]), rel=1e-6
        )
        assert {"rms/blocks.0.attn", "max/blocks.1.ffn", "grad_norm/blocks.0.attn.branch.q.weight"} <= hooked.keys()


def test_with_gradients_given_a_step_is_its_update_alone(tmp_path: Path) -> None:
    training = make(OurTraining, tmp_path / "given")
    with training.gradients_given():
        training.train(3)
        first = training.step.read([training.step(training.batch(), 1e-3)])[0].measured
        training.train_unobserved(2)
        assert training.step.read([training.step(training.batch(7), 1e-3)])[0].measured == first
    assert training.step.read([training.step(training.batch(7), 1e-3)])[0].measured != first
    assert added_by_scalars(training) < 1


def test_the_naive_one_waits_at_every_hook(tmp_path: Path) -> None:
    naive = make(NaiveTraining, tmp_path / "naive")
    assert isinstance(naive, NaiveTraining)
    assert not any(count_waits(naive, 1).elsewhere[name] for name in WAITS)
    n_parameters = len(list(naive.network.parameters()))
    waits = count_waits(naive, 1, lambda batch: naive.train_naively(1))
    # The loss, the norm of clipping, every gradient, and two of every sublayer.
    assert waits.elsewhere["aten::item"] == 2 + n_parameters + 2 * 2 * 2


def test_the_default_is_scalars_and_a_share_of_a_look() -> None:
    measured = {NONE: Spread([1.0]), SCALARS: Spread([1.01]), EVERYTHING: Spread([1.51]), NAIVE: Spread([3.0])}
    assert observed(measured, 100).values == pytest.approx([1.015])


def test_naive_hooks_stand_beside_both_baselines_where_one_is_compiled() -> None:
    measured = {NONE: Spread([1.0]), NAIVE: Spread([3.0])}
    assert "200" in naive_cost(measured) and "compiled" not in naive_cost(measured)
    of_compiled, _, of_eager = naive_cost(measured | {EAGER: Spread([2.0])}).partition("compiled")
    assert "200" in of_compiled and "50" in of_eager
