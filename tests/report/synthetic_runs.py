"""Run folders as training writes them, with numbers that we choose."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from normlab.config.identity import run_dir, treatment_hash
from normlab.config.schema import Config

PLACEMENTS: dict[str, dict[str, Any]] = {
    "pre": {"attn": {"pre": "n"}, "ffn": {"pre": "n"}, "init": "normal"},
    "post": {"attn": {"post": "n"}, "ffn": {"post": "n"}, "final": None, "init": "normal"},
    "hybrid": {"attn": {"q": "n", "k": "n", "v": "n", "post": "n"}, "ffn": {}, "init": "megatron"},
    "deepnorm": {
        "attn": {"skip": "c((2*L)**(1/4))", "post": "n"},
        "ffn": {"skip": "c((2*L)**(1/4))", "post": "n"},
        "final": None,
        "init": {"base": "xavier", "gain": {"v": "(8*L)**(-1/4)", "down": "(8*L)**(-1/4)"}},
    },
}
LN_V, UNIGRAM = math.log(512), 4.6


def make_config(root: Path, placement: str = "pre", seed: int = 0, **changes: Any) -> Config:
    """``changes``: whole groups (``optim={"lr": 1e-3}``) or top-level keys."""
    slots = PLACEMENTS.get(placement, PLACEMENTS["pre"]) | changes.pop("slots", {})
    plain: dict[str, Any] = {
        "experiment": "synthetic",
        "runs_dir": str(root),
        "seed": seed,
        "placement": {"name": placement, **slots},
        "model": {"name": "nano", "n_layers": 6},
        "train": {"steps": 60},
        "data": {"name": "toy"},
    }
    for key, value in changes.items():
        plain[key] = {**plain[key], **value} if isinstance(value, dict) and key in plain else value
    return Config.model_validate(plain)


def write_run(
    root: Path,
    placement: str = "pre",
    seed: int = 0,
    val_loss: float | None = 2.5,
    status: str = "done",
    outcome: str | None = "ok",
    diverged_step: int | None = None,
    spikes: tuple[int, ...] = (),
    summary: dict[str, Any] | None = None,
    device: str = "cpu",
    **changes: Any,
) -> Path:
    """One run folder, whole. ``summary``: what differs from a healthy one."""
    config = make_config(root, placement, seed, **changes)
    folder = run_dir(config)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", by_alias=True)))
    final = 2.5 if val_loss is None else val_loss
    steps = diverged_step or config.train.steps
    rng = np.random.default_rng([seed, len(placement), steps])
    _write_metrics(folder, config, steps, final, status == "diverged", spikes, rng)
    _write_probes(folder, config, placement, steps, rng)
    events = [{"start": step, "recovery": 5, "amplitude": 1.0} for step in spikes]
    series = {
        "events": len(spikes),
        "events_per_1000": 1000 * len(spikes) / steps,
        "recovered": len(spikes),
        "score_olmo2": 0.0,
        "score_olmo_core": 100 * len(spikes) / steps,
        "steps_of_events": events,
    }
    found = {
        "status": status,
        "outcome": outcome,
        "diverged_step": diverged_step,
        "steps": steps,
        "final": {
            "train_loss": None if val_loss is None else val_loss - 0.05,
            "val_loss": val_loss,
            "val_bpb": None if val_loss is None else val_loss / math.log(2) / 2,
        },
        "best_val_loss": val_loss,
        "init_loss": LN_V + 0.03,
        "spikes": {"loss": series, "grad_norm": series | {"steps_of_events": []}},
        "params": {"total": 1_234_567, "non_embedding": 1_000_000, "norm": 1000},
        "tokens": steps * 2048,
        "tokens_per_s": 12345.6,
        "precision": "fp32",
        "compiled": False,
        "device": "cpu",
        "data": {
            "fingerprint": "abc",
            "tokenizer": "bpe-512",
            "vocab_size": 512,
            "ln_vocab": LN_V,
            "unigram_ce": UNIGRAM,
        },
        "treatment_hash": treatment_hash(config),
        "error": None,
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(found | (summary or {})))
    environment = {
        "python": "3.11",
        "packages": {"torch": "2.11.0"},
        "device": device,
        "hardware": "a CPU",
        "git_commit": "0123abc",
    }
    (folder / "env.json").write_text(json.dumps(environment))
    return folder


def write_experiment(folder: Path, name: str = "synthetic", **content: Any) -> Path:
    """An experiment file; the grid defaults to pre against hybrid on three seeds."""
    plain = {
        "question": "Does it?",
        "grid": {"placement": ["pre", "hybrid"]},
        "seeds": [0, 1, 2],
        "baseline": {"placement": "pre"},
    } | content
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


def _write_metrics(
    folder: Path, config: Config, steps: int, final: float, diverges: bool, spikes: tuple[int, ...], rng: Any
) -> None:
    lines: list[dict[str, Any]] = [{"step": 0, "val_loss": LN_V, "val_bpb": LN_V / math.log(2) / 2}]
    for step in range(1, steps + 1):
        loss = final - 0.05 + (LN_V - final) * math.exp(-6 * step / config.train.steps) + rng.normal(0, 0.05)
        loss += sum(1.2 * math.exp(-(step - start) / 4) for start in spikes if 0 <= step - start < 20)
        norm = 0.4 + 2 * math.exp(-8 * step / config.train.steps) + abs(rng.normal(0, 0.08))
        if diverges and step > steps - 12:
            loss, norm = loss + 0.1 * 1.6 ** (step - steps + 12), norm * 1.5 ** (step - steps + 12)
        gone = diverges and step == steps
        lines.append({"step": step, "loss": None if gone else loss, "grad_norm": None if gone else norm, "clipped": 0})
        if step % max(1, config.train.steps // 8) == 0:
            lines.append({"step": step, "val_loss": loss + 0.05, "val_bpb": loss})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_probes(folder: Path, config: Config, placement: str, steps: int, rng: Any) -> None:
    block = np.arange(config.model.n_layers)
    slope = {"pre": 0.12, "post": -0.35, "hybrid": -0.02}.get(placement, 0.05)
    growth = {"pre": 0.25, "post": 0.0, "hybrid": 0.03}.get(placement, 0.12)
    lines = []
    for step in (0, 1, 10, steps):
        late = step / config.train.steps
        record: dict[str, Any] = {"step": step}
        if step:
            record["grad_norm"] = list(0.3 * (1 - 0.6 * late) * np.exp(slope * block + rng.normal(0, 0.08, len(block))))
        scale = 0.4 + late
        record["attn.rms_out"] = list(scale * (1 + growth * (block + 0.5) * (1 + 4 * late)))
        record["ffn.rms_out"] = list(scale * (1 + growth * (block + 1) * (1 + 4 * late)))
        lines.append(record)
    (folder / "probes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
