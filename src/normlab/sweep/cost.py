"""What a run costs, from its configuration alone: parameters, tokens, FLOPs, and hours at a given speed. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from normlab.config.architecture import ModelConfig
from normlab.config.schema import Config
from normlab.observe.throughput import flops_per_token
from normlab.results import FINISHED, read_config

_GATED = ("swiglu", "geglu", "reglu2")  # kinds of FFN with two matrices into it
_BYTES = 257  # tokens of the byte tokenizer: 256 and the end of text
_ENOUGH = 5  # measured runs of a shape
# What a step's duration depends on besides the network.
_PACE = ("batch_size", "micro_batch_size", "seq_len", "precision", "compile", "device")


@dataclass(frozen=True)
class Cost:
    """Of a whole run, or of the part that is still to do."""

    parameters: int  # without those of norms and other parts of a placement: a few per thousand
    tokens: int
    flops: float

    def part(self, steps_done: int, steps: int) -> Cost:
        """What is left after ``steps_done`` of ``steps``."""
        left = max(0, steps - steps_done) / steps
        return Cost(self.parameters, round(self.tokens * left), self.flops * left)

    def times(self, runs: int) -> Cost:
        return Cost(self.parameters, self.tokens * runs, self.flops * runs)


def cost_of(config: Config) -> Cost:
    """Matrix products forward and backward, as in ``observe.throughput``; validation and looks inside not counted."""
    model, train = config.model, config.train
    head = _rows(config) * model.d_model
    multiplied = _per_layer(model, model.top_k if model.n_experts else 1) * model.n_layers + head
    stored = _per_layer(model, model.n_experts or 1) * model.n_layers + head * (1 if model.tie_embeddings else 2)
    stored += train.seq_len * model.d_model if model.position == "learned" else 0
    tokens = train.steps * train.batch_size * train.seq_len
    return Cost(stored, tokens, float(tokens * flops_per_token(multiplied, model, train.seq_len)))


def knows_vocabulary(config: Config) -> bool:
    """Whether the output head is in the count: a tokenizer from a file or a hub is only read with the data."""
    return bool(config.model.vocab_size) or config.data.tokenizer.kind in ("bytes", "bpe")


def _rows(config: Config) -> int:
    if not knows_vocabulary(config):
        return 0
    tokenizer, multiple = config.data.tokenizer, config.model.pad_vocab_to
    size = config.model.vocab_size or (_BYTES if tokenizer.kind == "bytes" else tokenizer.vocab_size)
    return -(-size // multiple) * multiple


def _per_layer(model: ModelConfig, ffns: int) -> int:
    """The parameters of one layer's matrices and their biases, with ``ffns`` experts in the FFN's place."""
    d, inner, keys = model.d_model, model.n_heads * model.d_head, model.kv_heads * model.d_head
    qkv_bias = model.bias if model.qkv_bias is None else model.qkv_bias
    o_bias = model.bias if model.o_bias is None else model.o_bias
    attention = (d + qkv_bias) * (inner + 2 * keys) + (inner + o_bias) * d
    into = 2 if model.ffn in _GATED else 1
    ffn = (d + model.bias) * into * model.d_ff + (model.d_ff + model.bias) * d
    return attention + ffns * ffn + (d * model.n_experts if model.n_experts else 0)


class Pace:
    """Tokens per second of a run: as runs of the same shape had, or from a number of FLOPs per second."""

    def __init__(self, runs_dirs: Iterable[Path], flops_per_s: float | None = None) -> None:
        self._flops_per_s = flops_per_s
        self._measured: dict[str, list[float]] = {}
        if flops_per_s is None:
            for summary in (path for folder in runs_dirs for path in sorted(folder.glob("*/*/seed*/summary.json"))):
                self._read(summary)

    def seconds(self, config: Config, cost: Cost) -> float | None:
        """None where nothing of that shape has been measured."""
        if self._flops_per_s is not None:
            return cost.flops / self._flops_per_s
        threads = config.train.threads or config.launch.threads
        rates = self._measured.get(_shape(config.model_dump(mode="json"), threads))
        return cost.tokens / median(rates) if rates else None

    def _read(self, path: Path) -> None:
        try:
            summary = json.loads(path.read_text())
            rate = summary["tokens_per_s"]
            if not rate or summary["status"] not in FINISHED:
                return
            plain = read_config(path.parent)
            rates = self._measured.setdefault(_shape(plain, plain["train"]["threads"]), [])
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            return  # not there yet, or damaged
        if len(rates) < _ENOUGH:
            rates.append(rate)


def _shape(plain: dict[str, Any], threads: int | None) -> str:
    """The part of a configuration that decides how long a step takes; norms and wirings are left out."""
    model = {key: value for key, value in plain["model"].items() if key != "name"}
    tokenizer = plain["data"]["tokenizer"]
    vocabulary = [tokenizer["kind"], tokenizer["vocab_size"], tokenizer["name"]]
    return json.dumps([model, [plain["train"].get(key) for key in _PACE], vocabulary, threads], sort_keys=True)
