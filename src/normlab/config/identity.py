"""Which run is which: the hash of everything that can change a run's numbers, the seed apart.

Never a clock, never a counter: the same treatment finds the same folder, on any machine, in any order.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from normlab.config.schema import Config
from normlab.placement.ops import PROFILE

# Settings that decide where, how fast and how closely watched a run is, but none of its numbers (threads and micro
# batches change the order of a sum, and so its last bits).
_NOT_TREATMENT = {
    "experiment", "scale", "preset", "seed", "observe", "checkpoint", "wandb", "launch", "runs_dir",
    "placement.name", "placement.init", "norm.name", "model.name", "data.name", "data.cache_dir", "data.workers",
    "optim.name", "train.device", "train.micro_batch_size", "train.parallel", "train.threads",
    "train.cuda_graph",
}  # fmt: skip
# A key that is new with a default that keeps the old behaviour must not rename every run that is on disk: the hash is
# over what differs from the defaults. Whoever changes what a default means, in the schema or in the code, adds one.
_GENERATION = 1


_SLUG = 50  # characters: with experiment and hash within the 128 that wandb takes for the name of a group


def treatment(config: Config) -> dict[str, Any]:
    """The part of a configuration that can change a run's numbers, as nested plain data, without the seed."""
    plain = config.model_dump(mode="json", by_alias=True)
    plain["init"] = plain["placement"]["init"] if plain["init"] == "recipe" else plain["init"]
    plain["norm"]["type"] = config.norm.kind
    plain["norm"]["files"] = sorted(config.norm.files.values())
    ignored = _NOT_TREATMENT - ({"train.micro_batch_size"} if sees_micro_batches(config) else set())
    for path in ignored:
        *parents, key = path.split(".")
        node = plain
        for parent in parents:
            node = node[parent]
        del node[key]
    return plain


def sees_micro_batches(config: Config) -> bool:
    """Whether a number is taken over a micro batch: an expert's load, a norm's statistics over sequences, or the
    scale of a skip that is profiled."""
    slots = [getattr(part, "skip", None) for part in (config.placement.attn, config.placement.ffn)]
    return (
        config.model.n_experts is not None
        or config.norm.allow_noncausal
        or any(PROFILE in slot for slot in slots if slot)
    )


def treatment_hash(config: Config) -> str:
    """Eight hexadecimal digits that name a treatment."""
    differs = _without(treatment(config), _default_treatment())
    text = json.dumps([_GENERATION, differs], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@functools.cache
def _default_treatment() -> dict[str, Any]:
    return treatment(Config())


def _without(plain: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The entries of ``plain`` that differ from ``defaults``, section by section."""
    rest: dict[str, Any] = {}
    for key, value in plain.items():
        default = defaults.get(key)
        if isinstance(value, dict) and isinstance(default, dict):
            rest |= {key: inner} if (inner := _without(value, default)) else {}
        elif key not in defaults or value != default:
            rest[key] = value
    return rest


def slug(config: Config) -> str:
    """What a person reads in a folder name: ``hybrid-rmsnorm-nano-lr0.003``."""
    words = f"{config.placement.name}-{config.norm.name}-{config.model.name}-lr{config.optim.lr:g}"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", words)[:_SLUG]


def run_name(config: Config) -> str:
    """``<slug>-<hash8>``: one treatment; its seeds are folders below it."""
    return f"{slug(config)}-{treatment_hash(config)}"


def run_id(config: Config) -> str:
    """The run's id in wandb: the same for every continuation of the same run, another for another seed."""
    return f"{config.experiment}-{treatment_hash(config)}-s{config.seed}"


def run_dir(config: Config) -> Path:
    """``runs/<experiment>/<slug>-<hash8>/seed<k>``."""
    return Path(config.runs_dir) / config.experiment / run_name(config) / f"seed{config.seed}"
