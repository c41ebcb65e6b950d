"""Every benchmark at toy size: it runs, says one sentence, and writes JSON with every round in it."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from normlab import compose
from normlab.bench import apart, contestants, data, observing, throughput
from normlab.bench.measure import Spread
from normlab.bench.memory_child import OURS, PLAIN, measure
from normlab.bench.observing import count_waits
from normlab.bench.ours import OurTraining, random_tokens
from normlab.cli import main
from normlab.training.hardware import has_bf16

TOY = [
    "model=nano", "model.vocab_size=61", "train.seq_len=16", "train.batch_size=4", "train.compile=off",
    "train.threads=1", "train.device=cpu",
]  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(name: str, *words: str) -> tuple[dict[str, Any], str]:
        assert main(["bench", name, *words, "--out", str(tmp_path / "out")]) == 0
        (path,) = (tmp_path / "out").glob(f"{name}-*.json")
        return json.loads(path.read_text()), capsys.readouterr().out

    return run


def check(record: dict[str, Any], printed: str, rounds: int) -> None:
    """What every record has."""
    assert {"cpu", "cpu_flags", "cores", "memory_gb", "gpu"} <= record["machine"].keys()
    assert {"python", "torch", "transformers", "normlab"} <= record["versions"].keys()
    assert {"benchmark", "device", "made", "commit", "quick"} <= record.keys()
    assert record["method"]["rounds"] == rounds and record["method"]["threads"] == 1
    assert record["sections"]
    for section in record["sections"]:
        assert section["title"] in printed and section["verdict"] in printed and section["verdict"].endswith(".")
        measured = [of for row in section["rows"] for of in row.values() if isinstance(of, dict) and "median" in of]
        assert measured
        for spread in measured:
            assert len(spread["rounds"]) == rounds and all(map(math.isfinite, spread["rounds"]))
            assert spread["min"] <= spread["q1"] <= spread["median"] <= spread["q3"] <= spread["max"]


def test_throughput(bench):
    record, printed = bench("throughput", *TOY, "train.precision=fp32", "--quick", "--rounds", "2", "--seconds", "0.02")
    check(record, printed, 2)
    (section,) = record["sections"]
    assert {row["name"] for row in section["rows"]} == {
        "normlab",
        *(o.name for o in throughput.others(False, True, eager=True, has_bf16=has_bf16(False))),
    }
    losses = section["loss_at_start"]
    assert losses["normlab"] == pytest.approx(losses["plain, fp32"], rel=1e-4)
    assert losses["normlab"] == pytest.approx(losses["transformers, fp32"], rel=1e-4)
    for row in section["rows"]:
        tokens = row["tokens_per_s"]["rounds"][0] * row["seconds_per_step"]["rounds"][0]
        assert tokens == pytest.approx(4 * 16)
    ours, other, *_ = section["rows"]
    per_round = zip(other["seconds_per_step"]["rounds"], ours["seconds_per_step"]["rounds"], strict=True)
    assert other["normlab_is_faster_by"]["rounds"] == pytest.approx([theirs / mine for theirs, mine in per_round])
    assert section["vocabulary"] == 64 and section["precision"] == "fp32" and not section["compiled"]


def test_a_contestant_that_computes_something_else_is_found(bench, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "Apart", lambda threads, *what: contextlib.nullcontext(apart.here(*what)))
    monkeypatch.setattr(contestants, "copy_weights", lambda ours, theirs: None)
    with pytest.raises(AssertionError):
        bench("throughput", *TOY, "train.precision=fp32", "optim.lr=1e-3", "--quick")
    assert "unlike things" in capsys.readouterr().err


def test_placements(bench):
    words = ["placement=hybrid,parallel", "norm=layernorm,batchnorm"]
    record, printed = bench("placements", *TOY, *words, "--rounds", "2", "--seconds", "0.01")
    check(record, printed, 2)
    rows = {row["name"]: row for row in record["sections"][0]["rows"]}
    assert rows.keys() == {"hybrid", "parallel", "layernorm", "batchnorm"}
    assert all(row["problem"] is None for row in rows.values())
    per_round = zip(
        *(rows["hybrid"][k]["rounds"] for k in ("seconds_per_step", "baseline_seconds_per_step")), strict=True
    )
    assert rows["hybrid"]["relative"]["rounds"] == pytest.approx([a / b for a, b in per_round])


def test_one_placement_that_cannot_be_measured_is_a_row(bench, monkeypatch):
    good = OurTraining.warm_up

    def warm_up(self: OurTraining) -> None:
        if self.config.placement.name == "post":
            raise RuntimeError("no such kernel")
        good(self)

    monkeypatch.setattr(OurTraining, "warm_up", warm_up)
    record, printed = bench("placements", *TOY, "placement=post,olmo2", "--rounds", "1", "--seconds", "0.01")
    problems = {row["name"]: row["problem"] for row in record["sections"][0]["rows"]}
    assert problems == {"olmo2": None, "post": "RuntimeError: no such kernel"} and "1 could not be measured" in printed


def test_attention(bench):
    record, printed = bench("attention", "train.threads=1", "--quick", "--rounds", "2", "--seconds", "0.001")
    (section,) = record["sections"]
    dtype = "bfloat16" if has_bf16(False) else "float32"
    ways = [f"kernel, {dtype}", "kernel, float32", f"written out, {dtype}"]
    assert [row["name"] for row in section["rows"]] == list(dict.fromkeys(ways))
    assert "the time of the kernel" in printed


def test_norms(bench):
    words = ["norm=rmsnorm,groupnorm", "train.threads=1", "train.device=cpu", "train.compile=off"]
    record, printed = bench("norms", *words, "--quick", "--rounds", "2", "--seconds", "0.001")
    check(record, printed, 2)
    assert [(section["backward"], section["compiled"]) for section in record["sections"]] == [(0, 0), (1, 0)]
    for section in record["sections"]:
        assert {"torch rms_norm", "torch layer_norm", "rmsnorm"} <= {row["name"] for row in section["rows"]}


@pytest.mark.slow
def test_compiled_contestants(bench):
    toy = [word for word in TOY if word != "train.compile=off"]
    record, printed = bench("throughput", *toy, "--quick", "--rounds", "2", "--seconds", "0.02")
    check(record, printed, 2)
    rows = record["sections"][0]["rows"]
    assert {row["name"] for row in rows} == {
        "normlab",
        *(o.name for o in throughput.others(False, True, False, has_bf16(False))),
    }
    record, printed = bench(
        "norms", "norm=rmsnorm", "train.threads=1", "--quick", "--rounds", "1", "--seconds", "0.001"
    )
    check(record, printed, 1)
    assert sum(section["compiled"] for section in record["sections"]) == 2


def test_who_competes():
    everybody = [other.name for other in throughput.others(cuda=False, quick=False, eager=False)]
    assert everybody == [
        "plain, fp32", "plain, fp32, compiled", "plain, bf16, compiled", "transformers, fp32",
        "transformers, fp32, compiled", "transformers, bf16", "transformers, bf16, compiled",
    ]  # fmt: skip
    # Where no hardware multiplies bfloat16, nobody trains in it.
    without = [other.name for other in throughput.others(cuda=False, quick=False, eager=False, has_bf16=False)]
    assert without == [name for name in everybody if "bf16" not in name]
    assert [o.bf16 for o in throughput.others(False, quick=True, eager=False, has_bf16=False)] == [False] * 3
    on_a_gpu = throughput.others(cuda=True, quick=False, eager=False)
    assert len(on_a_gpu) == 4 and all(other.bf16 for other in on_a_gpu)


def test_observing(bench):
    record, printed = bench("observing", *TOY, "--rounds", "2", "--seconds", "0.01")
    check(record, printed, 2)
    (section,) = record["sections"]
    assert section["waits"].get("aten::item", 0) == 0 and "never wait" in section["verdict"]


def test_a_look_costs_its_share():
    steps, looks = Spread([1.0, 2.0]), Spread([11.0, 4.0])
    measured = {throughput.OURS: steps, throughput.GRAPHED: Spread([0.5, 1.0]), throughput.LOOK: looks}
    assert throughput.observed(measured, throughput.OURS, 10).values == [2.0, 2.2]
    assert throughput.observed(measured, throughput.GRAPHED, 10).values == pytest.approx([1.55, 1.3])  # it has no looks
    assert observing.observed({observing.SCALARS: steps, observing.EVERYTHING: looks}, 10).values == [2.0, 2.2]


def test_a_look_is_that_of_a_run(tmp_path):
    config = compose([*TOY, "train.steps=100", "wandb=disabled"])
    training = OurTraining(config, random_tokens(config, tmp_path), tmp_path)
    training.train(2)
    training.look(1)
    (row,) = map(json.loads, (tmp_path / "probes.jsonl").read_text().splitlines())
    assert row["step"] == 3 and {"update_ratio", "grad_norm", "attn.entropy"} <= row.keys()
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]


def test_a_step_that_waits_is_found(tmp_path):
    config = compose([*TOY, "train.steps=100", "wandb=disabled"])
    training = OurTraining(config, random_tokens(config, tmp_path), tmp_path)
    assert not sum(count_waits(training, 2).elsewhere.values())
    step = training.step
    training.step = lambda batch, lr: step(batch, lr).sum().item()
    assert count_waits(training, 2).elsewhere["aten::item"] == 2


def test_data(bench, tmp_path):
    texts = tmp_path / "texts.jsonl"
    documents = [f"document {i}: <|endoftext|> naïve words\n\n  and number {i * i}\n" * 20 for i in range(40)]
    texts.write_text("\n".join(json.dumps({"text": text}) for text in documents))
    words = ["data=files", f"data.paths=[{texts}]", "data.tokenizer.vocab_size=300", "train.threads=1"]
    record, printed = bench("data", *words, "--rounds", "1")
    check(record, printed, 1)
    (section,) = record["sections"]
    assert section["equal_tokens"] and section["documents"] == 40 and section["tokens"] > 1000
    assert section["bytes"] == sum(len(text.encode()) for text in documents)


def test_a_tokenizer_that_differs_is_found(bench, monkeypatch, corpus, capsys):
    monkeypatch.setattr(data._Race, "same", lambda self: False)
    with pytest.raises(AssertionError):
        bench("data", "data=files", f"data.paths=[{corpus}]", "data.tokenizer.vocab_size=300", "--quick")
    assert "unlike things" in capsys.readouterr().err


def test_memory_is_that_of_training(tmp_path):
    before = torch.get_num_threads()
    config = compose([*TOY, "wandb=disabled"])
    for who in (OURS, PLAIN):
        found = measure(who, config, tmp_path)
        assert found["peak"] >= found["before"] > 2**20
    torch.set_num_threads(before)


@pytest.mark.slow
def test_memory(bench):
    record, printed = bench("memory", *TOY, "--quick")
    check(record, printed, 1)
    assert len(record["sections"][0]["rows"]) == len((OURS, PLAIN))


@pytest.mark.slow
def test_startup(bench, tiny):
    record, printed = bench("startup", *tiny("train.steps=20"), "--quick")
    check(record, printed, 1)
    starting, composing = record["sections"]
    took = {row["name"]: row["seconds"]["median"] for row in starting["rows"]}
    assert len(took) == 4 and all(value > 0 for value in took.values())
    assert composing["cells"] == 16 and [row["name"] for row in composing["rows"]][1] == "each by itself"


@pytest.mark.slow
def test_sweep(bench, tiny):
    overrides = [word for word in tiny("train.steps=5") if not word.startswith("runs_dir")]
    record, printed = bench("sweep", *overrides, "--quick")
    check(record, printed, 1)
    assert record["sections"][0]["cells"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["througput"], "did you mean 'throughput'"),
        (["throughput", "--shape", "smal"], "did you mean 'small'"),
        (["data", "--shape", "small"], "--shape belongs to"),
        (["norms", "--rounds", "0"], "a number above 0"),
        (["norms", "--seconds", "soon"], "a number above 0"),
        (["norms", "norm=rmsnrm"], "did you mean 'rmsnorm'"),
        (["placements", "placement=hybird"], "did you mean 'hybrid'"),
        (["throughput", "model=nano", "model.ffn=gelu"], "the plain loop and Llama have none"),
        (["throughput", "train.threads=many"], "takes one number"),
        (["data", "data.tokenizer.kind=bytes"], "datasets has no counterpart"),
    ],
)
def test_mistakes_are_one_line(words, said, capsys):
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len([line for line in error.splitlines() if line.startswith("normlab:")]) == 1
