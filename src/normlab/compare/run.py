"""One run as the comparison sees it: what it is, how far it got, how it ended and why."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from normlab.observe.depth import dead_share
from normlab.report.row import usable
from normlab.report.runs import as_text, load_metrics, load_probes
from normlab.results import FINISHED, LOST
from normlab.sweep.state import read_state

# Lines of the loss that tell how good it is, by the summary's column that holds them.
ANCHORS = {
    "ln V": "corpus.ln_vocab",
    "unigram": "corpus.unigram_ce",
    "bigram": "corpus.bigram_ce",
    "initial loss": "init_loss",
}


@dataclass(frozen=True)
class ComparedRun:
    """``row``: its settings and summary by the columns of ``load_runs``; only what is known."""

    folder: Path
    row: dict[str, Any]
    status: str  # done, diverged, running, interrupted, failed, corrupt
    step: int
    steps: int | None  # that it was asked for
    metrics: pd.DataFrame  # by step
    probes: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return "/".join(self.folder.parts[-2:])

    @property
    def seed(self) -> int | None:
        return int(self.row["seed"]) if "seed" in self.row else None

    @property
    def placement(self) -> str:
        return str(self.row.get("placement", ""))

    @property
    def verdict(self) -> str:
        """One word: the outcome of a run that has ended, else its status; ``damaged`` where it cannot be read."""
        if self.status == "corrupt":
            return "damaged"
        return str(self.row.get("outcome") or self.status) if self.status in FINISHED else self.status

    @cached_property
    def averaged(self) -> bool:
        """Whether it may enter a mean over seeds, by the rule of the tables."""
        return not usable(pd.DataFrame([self.row | {"status": self.status, "outcome": self.verdict}]), "val_loss").empty

    @property
    def final_loss(self) -> float | None:
        """Validation loss at the end of a run that may be averaged, nats per token."""
        return self.number("val_loss") if self.averaged else None

    @property
    def latest_loss(self) -> float | None:
        """The last validation loss that was finite, of any run."""
        values = self.series("val_loss")
        return float(values.iloc[-1]) if len(values) else None

    @property
    def max_grad_norm(self) -> float | None:
        """Largest finite gradient norm before clipping."""
        norms = self.series("grad_norm")
        return float(norms.max()) if len(norms) else None

    @property
    def spikes(self) -> int | None:
        """Loss spike events; None before the run has ended."""
        found = self.number("spikes.loss.events")
        return None if found is None else int(found)

    @property
    def first_bad_step(self) -> int | None:
        """Where it went wrong: said by the summary, its diagnosis or by where it stopped."""
        for key in ("first_bad_step", "diagnosis.step", "diverged_step"):
            if (step := self.number(key)) is not None:
                return int(step)
        return None

    @property
    def bad_layer(self) -> int | None:
        layer = self.number("diagnosis.layer")
        return None if layer is None else int(layer)

    @property
    def why(self) -> str:
        """Why it is not ok, in one sentence; empty where it is, or has not ended."""
        if self.status in ("failed", "corrupt"):
            return " ".join(str(self.row.get("error", "")).split())
        if text := self.row.get("diagnosis.text"):
            return str(text)
        final = self.number("val_loss")
        if self.verdict == "stagnated" and final is not None and "corpus.unigram_ce" in self.row:
            level = self.row["corpus.unigram_ce"]
            return f"The final loss, {final:.2f} nats, is that of token frequencies alone, {level:.2f}."
        if self.verdict in LOST or self.status == "diverged":
            return f"The run ended at step {self.step}; its summary says no more."
        return "It was cut and can go on: the same command once more." if self.status == "interrupted" else ""

    @property
    def dead_gradients(self) -> float | None:
        """Share of blocks whose gradient norm is below a thousandth of the largest, at the last look inside."""
        profile = self.last_profile("grad_norm")
        return dead_share(profile) if profile else None

    @property
    def last_layer_rms(self) -> float | None:
        """RMS of the stream after the last block, before a post-norm, behind which it would be 1 by construction."""
        profile = self.last_profile("ffn.rms_sum") or self.last_profile("ffn.rms_out")
        return profile[-1] if profile and profile[-1] is not None else None

    @cached_property
    def events(self) -> dict[str, list[dict[str, Any]]]:
        """Spike events of ``loss`` and ``grad_norm``: start, recovery (None: not recovered), amplitude."""
        texts = {kind: self.row.get(f"spikes.{kind}.steps_of_events") for kind in ("loss", "grad_norm")}
        return {kind: json.loads(text) if isinstance(text, str) else [] for kind, text in texts.items()}

    def number(self, key: str) -> float | None:
        """A finite number of the row; None where there is none."""
        value = self.row.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            return None
        return float(value)

    def series(self, column: str) -> pd.Series:
        """The finite values of a column of metrics.jsonl by step."""
        if column not in self.metrics:
            return pd.Series(dtype=float)
        values = self.metrics[column]
        return values[values.abs() < math.inf]

    def last_profile(self, quantity: str) -> list[float | None] | None:
        return next((row[quantity] for row in reversed(self.probes) if row.get(quantity)), None)


def read_run(row: dict[str, Any]) -> ComparedRun:
    """A row of ``load_runs`` with what the run wrote. A ``running`` whose process is gone is ``interrupted``."""
    folder = Path(row["run_dir"])
    known = {key: value for key, value in row.items() if as_text(value) != "null"}
    state = read_state(folder)
    metrics = load_metrics(folder).set_index("step")
    status = "corrupt" if known["status"] == "corrupt" else state.status
    if status == "missing":  # its folder and configuration are there, and not a step yet
        status = "interrupted"
    step = int(metrics.index.max()) if len(metrics) else 0
    return ComparedRun(folder, known, status, step, state.steps, metrics, load_probes(folder))
