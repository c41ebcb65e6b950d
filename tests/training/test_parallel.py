"""One run on two processes: the numbers of one process, whatever is shared, and checkpoints that both can read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from parallel_runs import KINDS, agree, seed_folder, small, train_by_two

import normlab
from normlab.config.schema import Config
from normlab.data import Loader
from normlab.data.tokenfile import TokenFile, TokenWriter
from normlab.errors import UserError
from normlab.training.parallel import Parallel

DENSE = ["placement=hybrid", "model.tie_embeddings=false"]
STEPS = ("step_0000003", "step_0000006")


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folders of one run on one process here, under both kinds on two by one ``torchrun``, and of runs that were
    cut under one number of processes and went on under another; ``""``: what holds them."""
    folder = tmp_path_factory.mktemp("parallel")

    def overrides(experiment: str, *more: str) -> list[str]:
        return small(corpus, folder, experiment, *DENSE, *more)

    normlab.train(normlab.compose(overrides("one")))
    todo = []
    for kind in KINDS:
        cut(folder, "one", f"up_{kind}")
        todo += [overrides(f"{name}{kind}", f"train.parallel={kind}") for name in ("", "up_")]
    todo += [
        overrides("refused", "train.batch_size=9", "train.micro_batch_size=null"),
        overrides("sees", "model.n_experts=4", "train.micro_batch_size=null"),
        overrides("scalar", "train.parallel=fsdp", "placement.weights=spectral"),
    ]
    (folder / "said.txt").write_text(train_by_two(todo, folder))
    for kind in KINDS:
        cut(folder, kind, f"down_{kind}")
        normlab.train(normlab.compose(overrides(f"down_{kind}")))
    return lambda experiment: seed_folder(folder, experiment) if experiment else folder


def cut(runs: Path, experiment: str, into: str) -> None:
    """A copy of a run that ended behind its first checkpoint, at step 3."""
    shutil.copytree(runs / experiment, runs / into)
    folder = seed_folder(runs, into)
    for name in ("summary.json", "SHA256SUMS", "checkpoints/step_0000006.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "checkpoints/step_0000006")


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_see_the_numbers_of_one(runs, kind):
    agree(runs("one"), runs(kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["down", "up"])
def test_a_checkpoint_goes_on_under_another_number_of_processes(runs, way, kind):
    agree(runs("one"), runs(f"{way}_{kind}"))
    begun, ended = (len(list((runs(f"{way}_{kind}") / "checkpoints" / step).iterdir())) for step in STEPS)
    assert (begun, ended) == ((2, 1) if way == "down" else (1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_each_process_writes_its_share(runs, kind):
    environment = json.loads((runs(kind) / "env.json").read_text())
    assert (environment["parallel"], environment["processes"]) == (kind, 2)
    sizes = sorted(part.stat().st_size for part in (runs(kind) / "checkpoints/step_0000006").iterdir())
    whole = sum(part.stat().st_size for part in (runs("one") / "checkpoints/step_0000006").iterdir())
    assert sizes[0] > 0.3 * sizes[1] and sum(sizes) < 1.2 * whole


@pytest.mark.parametrize(
    "line",
    [
        "train.batch_size=9 is no multiple of 2 processes; the nearest is 8",
        "say which, with train.micro_batch_size=4",
        "is a single number, which sharded training cannot do; use train.parallel=ddp",
    ],
)
def test_what_would_be_another_run_is_refused_once(runs, line):
    assert (runs("") / "said.txt").read_text().count(line) == 1


@pytest.mark.parametrize("world", [2, 4, 8])
def test_the_processes_share_one_batch_in_order(world, tmp_path):
    with TokenWriter(tmp_path / "tokens", 64) as writer:
        writer.begin_document()
        writer.write(torch.arange(1000).remainder(64).numpy().astype(writer.dtype), 1000)
        writer.finish({})
    tokens = TokenFile(tmp_path / "tokens")
    shares = [torch.from_numpy(Loader(tokens, 16, 8, 0, rank, world).batch(3)) for rank in range(world)]
    assert torch.equal(torch.cat(shares), torch.from_numpy(Loader(tokens, 16, 8, 0).batch(3)))


def config_of(*overrides: str) -> Config:
    return normlab.compose(["model=nano", "model.vocab_size=64", "train.batch_size=8", *overrides])


def test_the_share_of_a_batch():
    alone, pair = Parallel(), Parallel("ddp", 0, 2)
    config = config_of()
    assert alone.share_of(config) is config
    assert pair.share_of(config).train.sequences_per_forward == 4
    assert pair.share_of(config_of("train.micro_batch_size=2")).train.sequences_per_forward == 2
    with pytest.raises(UserError, match=r"does not divide the 4 sequences .* train\.micro_batch_size=4 does"):
        pair.share_of(config_of("train.micro_batch_size=8"))


def test_a_norm_over_sequences_stays_on_one_process():
    config = config_of("norm=batchnorm", "norm.allow_noncausal=true", "train.micro_batch_size=4")
    with pytest.raises(UserError, match="train it on one process"):
        Parallel("ddp", 0, 2).check(config, torch.nn.Linear(1, 1))


def test_one_process_that_asks_for_several_is_told(tiny, capsys):
    normlab.train(normlab.compose(tiny("train.parallel=fsdp", "train.steps=2", "optim.warmup_steps=0")))
    assert "one process, so train.parallel=fsdp is none; torchrun starts several" in capsys.readouterr().out


def test_several_processes_that_may_not_share_are_told(tiny, monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"train\.parallel=none, but torchrun started 2 processes"):
        normlab.train(normlab.compose(tiny("train.parallel=none")))
