"""What things are called in print. A placement that is not listed goes by its own name."""

from __future__ import annotations

from typing import Any

from normlab.experiment.schema import Metric
from normlab.report.runs import as_text

METHODS = {
    "none": "No norm",
    "pre": "Pre-Norm",
    "post": "Post-Norm",
    "hybrid": "HybridNorm",
    "hybrid_star": "HybridNorm*",
    "pre_qk": "Pre-Norm + QK-norm",
    "pre_qkv": "Pre-Norm + QKV-norm",
    "qkv_pre": "QKV-Pre",
    "sandwich": "Sandwich-LN",
    "peri": "Peri-LN",
    "olmo2": "OLMo 2",
    "deepnorm": "DeepNorm",
    "mix_ln": "Mix-LN",
    "layernorm_scaling": "LayerNorm Scaling",
    "parallel": "Parallel",
}
_NORMS = {
    "rmsnorm": "RMSNorm",
    "layernorm": "LayerNorm",
    "layernorm_nobias": "LayerNorm without bias",
    "none": "no norm",
}
_FACTORS = {
    "placement": "Method",
    "norm": "Norm type",
    "model": "Model",
    "data": "Data",
    "init": "Init asked",
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


def factor_name(factor: str) -> str:
    """``placement.attn.v`` -> ``attn.v``; the usual factors have names of their own."""
    return _FACTORS.get(factor, factor.split(".", 1)[-1])


def value_name(factor: str, value: Any) -> str:
    """A factor's value as a table cell says it."""
    text = as_text(value)
    if factor == "placement":
        return METHODS.get(text, text.replace("_", " "))
    if factor == "norm":
        return _NORMS.get(text, text)
    return "none" if text == "null" else text


def row_label(cell: dict[str, Any]) -> str:
    """``HybridNorm, attn.v=none``: a row of a table in one line."""
    words = [
        value_name(factor, value)
        if factor in ("placement", "norm")
        else f"{factor_name(factor)}={value_name(factor, value)}"
        for factor, value in sorted(cell.items(), key=lambda item: item[0] != "placement")
    ]
    return ", ".join(words) or "all runs"


def init_name(init: str) -> str:
    """An init with changed matrices is long in full: the table gives its base and a mark, a note the rest."""
    return init.split("(", 1)[0] + ("†" if "(" in init else "")
