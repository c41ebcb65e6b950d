"""What is trained in a benchmark: named shapes, and whether the other side can train the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from normlab.config.compose import compose
from normlab.config.overrides import key_of
from normlab.config.schema import Config
from normlab.errors import UserError, nearest

# A long run: compiled where `auto` compiles long runs, and the schedule hardly moves while it is watched.
_ALWAYS = ("train.steps=100000", "wandb=disabled")
# Batches of the paper's models: what one H200 holds with the logits of all tokens, which the other side keeps.
SHAPES: dict[str, tuple[str, ...]] = {
    # 6 layers, width 256, context 256, vocabulary 4096
    "small": ("model=mini", "model.n_layers=6", "model.vocab_size=4096", "train.seq_len=256", "train.batch_size=16"),
    # nanoGPT's own advice for a CPU: 4 layers, width 128, 4 heads, context 64, 12 sequences, 65 characters
    "nanogpt_cpu": (
        "model=micro", "model.n_layers=4", "model.n_kv_heads=4", "model.vocab_size=65", "model.pad_vocab_to=1",
        "train.seq_len=64", "train.batch_size=12",
    ),
    "paper_151m": ("model=paper_151m", "train.seq_len=4096", "train.batch_size=16", "train.micro_batch_size=8"),
    "paper_550m": ("model=paper_550m", "train.seq_len=4096", "train.batch_size=8", "train.micro_batch_size=4"),
    "paper_1.2b": ("model=paper_1.2b", "train.seq_len=4096", "train.batch_size=4", "train.micro_batch_size=2"),
}  # fmt: skip
_CPU, _GPU = ("small", "nanogpt_cpu"), ("small", "paper_151m", "paper_550m", "paper_1.2b")
_OWN_SIZE = ("model", "scale", "preset")  # an override of one of these is a shape by itself


@dataclass(frozen=True)
class Given:
    """What the command line asks of a benchmark. ``None``: the benchmark's own choice."""

    overrides: tuple[str, ...] = ()
    shape: str | None = None
    rounds: int | None = None
    seconds: float | None = None
    quick: bool = False
    out: Path = Path("results/bench")


def shapes(given: Given, cpu: Sequence[str] = _CPU, gpu: Sequence[str] = _GPU) -> dict[str, tuple[str, ...]]:
    """The overrides of each shape to measure: the one that was asked for, else those of this device.

    With ``quick``, the last of ``cpu`` or the first of ``gpu``. Raises UserError for an unknown shape.
    """
    if given.shape is not None:
        if given.shape not in SHAPES:
            raise UserError(f"unknown shape '{given.shape}'; {nearest(given.shape, SHAPES)}")
        return {given.shape: (*SHAPES[given.shape], *_ALWAYS, *given.overrides)}
    if any(key_of(override) in _OWN_SIZE for override in given.overrides):
        return {"as given": (*_ALWAYS, *given.overrides)}
    names = gpu if is_cuda(given) else cpu
    if given.quick:
        names = names[:1] if is_cuda(given) else names[-1:]
    return {name: (*SHAPES[name], *_ALWAYS, *given.overrides) for name in names}


def is_cuda(given: Given) -> bool:
    """Whether the benchmark runs on a GPU."""
    return "train.device=cpu" not in given.overrides and torch.cuda.is_available()


def vocabulary(config: Config) -> int:
    """Tokens that occur; the embedding has ``rows``."""
    from normlab.data import vocab_size_of

    return config.model.vocab_size or vocab_size_of(config.data)


def rows(config: Config) -> int:
    unit = config.model.pad_vocab_to
    return -(-vocabulary(config) // unit) * unit


def plain_facts(config: Config) -> dict[str, object]:
    """The shape as a results file says it."""
    model, train = config.model, config.train
    return {
        "placement": config.placement.name, "norm": config.norm.name, "n_layers": model.n_layers,
        "d_model": model.d_model, "n_heads": model.n_heads, "n_kv_heads": model.kv_heads, "d_ff": model.d_ff,
        "vocabulary": rows(config), "seq_len": train.seq_len, "batch_size": train.batch_size,
        "micro_batch_size": train.sequences_per_forward,
    }  # fmt: skip


def in_words(config: Config) -> str:
    model, train = config.model, config.train
    words = f"{model.n_layers} layers x {model.d_model}, vocabulary {rows(config)}"
    return f"{words}, {train.batch_size} x {train.seq_len} tokens a step"


def with_train(config: Config, **settings: object) -> Config:
    """The same with other settings of ``train``."""
    return config.model_copy(update={"train": config.train.model_copy(update=settings)})


def check_comparable(config: Config) -> None:
    """Raises UserError for a network that the plain loop and Llama have no counterpart of."""
    base, model = Config().model, config.model
    sizes = {"name", "n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "rope_theta", "vocab_size"}
    free = sizes | {"tie_embeddings", "pad_vocab_to", "top_k", "normalize_top_k", "balance_loss", "router_z_loss"}
    for key in type(model).model_fields:
        if key not in free and getattr(model, key) != getattr(base, key):
            raise UserError(
                f"model.{key}={getattr(model, key)}: the plain loop and Llama have none; leave it at "
                f"{getattr(base, key)}, or compare placements with `normlab bench placements`"
            )


def same_function(config: Config) -> bool:
    """Whether normlab's network computes what the others do, so that losses with the same weights must agree."""
    pre = compose(["placement=pre"])
    return config.norm.kind == "rmsnorm" and config.placement == pre.placement


def check_here(condition: bool, what: str) -> None:
    """Raises UserError where a benchmark would compare different things."""
    if not condition:
        raise UserError(f"this benchmark compared unlike things: {what}; please report it")
