"""What a run costs, from its configuration alone: against the networks themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from normlab.config.compose import compose
from normlab.model.gpt import GPT, count_parameters
from normlab.observe.throughput import flops_per_token
from normlab.sweep.cost import Cost, Pace, cost_of, knows_vocabulary


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=nano"],
        ["model=moe_nano"],
        ["model=nano", "model.bias=true", "model.qkv_bias=false"],
        ["model=nano", "model.tie_embeddings=false", "model.ffn=relu2", "model.o_bias=true"],
        ["model=nano", "model.position=learned", "model.n_kv_heads=1", "model.head_dim=24"],
        ["preset=gpt2", "model.n_layers=1", "model.d_model=64", "model.n_heads=4", "model.d_ff=96"],
        ["preset=gemma2", "model.n_layers=2", "model.d_model=64", "model.d_ff=96", "model.vocab_size=1000"],
    ],
)
def test_parameters_and_flops_are_those_of_the_network(overrides: list[str]) -> None:
    """But for what the placement adds, which is left out."""
    config = compose([*overrides, "data.tokenizer.kind=bytes"])
    network = GPT(config, config.model.vocab_size or 257)
    counts, cost = count_parameters(network), cost_of(config)
    assert cost.parameters == counts["total"] - counts["norm"] - _head_bias(network)
    head = network.embed if network.head is None else network.head
    multiplied = counts["non_embedding"] + head.weight.numel() - (counts["total"] - counts["active"]) - counts["norm"]
    assert cost.flops == cost.tokens * flops_per_token(multiplied, config.model, config.train.seq_len)
    assert cost.tokens == config.train.steps * config.train.batch_size * config.train.seq_len
    assert counts["norm"] < 0.02 * counts["total"]


def _head_bias(network: GPT) -> int:
    return 0 if network.head is None or network.head.bias is None else network.head.bias.numel()


def test_what_is_left_of_a_cut_run() -> None:
    assert Cost(7, 1000, 4e6).part(250, 1000) == Cost(7, 750, 3e6)
    assert Cost(7, 1000, 4e6).part(1000, 1000) == Cost(7, 0, 0.0)
    assert Cost(7, 1000, 4e6).times(3) == Cost(7, 3000, 1.2e7)


def test_a_vocabulary_that_only_the_data_knows_is_said_to_be_missing() -> None:
    known, unknown = compose([]), compose(["data.tokenizer.kind=hub", "data.tokenizer.name=a/b"])
    assert knows_vocabulary(known) and not knows_vocabulary(unknown)
    assert knows_vocabulary(compose(["data.tokenizer.kind=hub", "data.tokenizer.name=a/b", "model.vocab_size=512"]))
    assert cost_of(unknown).flops < cost_of(known).flops


def finished(folder: Path, overrides: list[str], rate: float | None, status: str = "done") -> None:
    folder.mkdir(parents=True)
    plain = compose(overrides).model_dump(mode="json", by_alias=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    (folder / "summary.json").write_text(json.dumps({"status": status, "tokens_per_s": rate}))


def test_hours_at_the_pace_of_runs_of_the_same_shape(tmp_path: Path) -> None:
    same = ["train.threads=1", "model=nano"]
    for seed, rate in enumerate((100.0, 300.0, 200.0)):
        finished(
            tmp_path / "e" / "a" / f"seed{seed}", [*same, f"seed={seed}", "placement=post", "train.steps=70"], rate
        )
    finished(tmp_path / "e" / "b" / "seed0", [*same, "train.batch_size=1"], 9.0)
    finished(tmp_path / "e" / "b" / "seed1", ["model=micro", "train.threads=1"], 9.0)
    finished(tmp_path / "e" / "b" / "seed2", ["model=nano", "train.threads=2"], 9.0)
    finished(tmp_path / "e" / "b" / "seed3", same, 9.0, status="failed")
    finished(tmp_path / "e" / "b" / "seed4", same, None)
    pace, config = Pace([tmp_path]), compose(["model=nano"])
    assert pace.seconds(config, Cost(1, 1000, 1.0)) == 1000 / 200
    assert pace.seconds(compose(["model=small"]), Cost(1, 1000, 1.0)) is None


def test_hours_at_a_given_speed(tmp_path: Path) -> None:
    assert Pace([tmp_path], flops_per_s=2e12).seconds(compose([]), Cost(1, 1, 8e12)) == 4.0
