"""What things are called in print."""

from __future__ import annotations

import functools
from typing import Any

from normlab.config.compose import config_folders
from normlab.errors import UserError
from normlab.experiment.schema import Metric
from normlab.placement.card import read_card
from normlab.report.runs import as_text

_NORMS = {
    "rmsnorm": "RMSNorm",
    "layernorm": "LayerNorm",
    "layernorm_nobias": "LayerNorm without bias",
    "none": "no norm",
    "batchnorm": "BatchNorm",
    "powernorm": "PowerNorm",
    "groupnorm": "GroupNorm",
    "instancenorm": "InstanceNorm",
    "scalenorm": "ScaleNorm",
    "seednorm": "SeeDNorm",
    "gatednorm": "GatedNorm",
    "dyt": "DyT",
    "derf": "Derf",
}
LONG_INIT = 32  # characters; a longer one stands in a note
_FACTORS = {
    "placement": "Method",
    "norm": "Norm type",
    "model": "Model",
    "data": "Data",
    "init": "Init",
    "optim.lr": "LR",
    "optim.warmup_steps": "Warm-up",
    "optim.weight_decay": "Weight decay",
    "train.steps": "Steps",
    "train.batch_size": "Batch",
    "model.n_layers": "Layers",
}
METRICS: dict[Metric, str] = {
    "val_loss": "Val. loss",
    "val_bpb": "Val. bits/byte",
    "train_loss": "Train loss",
    "best_val_loss": "Best val. loss",
}
UNITS: dict[Metric, str] = {
    "val_loss": "nats/token",
    "val_bpb": "bits/byte",
    "train_loss": "nats/token",
    "best_val_loss": "nats/token",
}


@functools.cache
def method_name(placement: str) -> str:
    """The title of a placement's file; of one that is not found here, its name."""
    for folder in config_folders():
        file = folder / "placement" / f"{placement}.yaml"
        if file.is_file():
            try:
                return read_card(file).title
            except UserError:  # a user's own file needs no header
                break
    return placement.replace("_", " ")


def factor_name(factor: str) -> str:
    """``placement.attn.v`` -> ``attn.v``; the usual factors have names of their own."""
    return _FACTORS.get(factor, factor.split(".", 1)[-1])


def value_name(factor: str, value: Any) -> str:
    """A factor's value as a table cell says it."""
    text = as_text(value)
    if factor == "placement":
        return method_name(text)
    if factor == "norm":
        return _NORMS.get(text, text)
    return "none" if text == "null" else text


def row_label(cell: dict[str, Any]) -> str:
    """``HybridNorm, attn.v=none``: a row of a table in one line."""
    ordered = sorted(cell.items(), key=lambda item: item[0] != "placement")
    return ", ".join(_in_a_label(factor, value) for factor, value in ordered) or "all runs"


def _in_a_label(factor: str, value: Any) -> str:
    name = value_name(factor, value)
    if factor == "init":
        return f"{name} init"
    return name if factor in ("placement", "norm") else f"{factor_name(factor)}={name}"


def init_name(init: str) -> str:
    """An init with changed matrices is long in full: the table gives its base and a mark, a note the rest."""
    return init if len(init) <= LONG_INIT else init.split("(", 1)[0] + "†"
