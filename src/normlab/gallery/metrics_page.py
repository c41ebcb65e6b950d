"""The page that says what every number of a run folder is: from the docstrings of what computes it.

What has no function of its own is described in ``metrics_text``; a test trains a network and finds every name that it
wrote.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from normlab.gallery.markdown import prose, table
from normlab.gallery.metrics_text import METRICS, OF_GRADIENTS, PROBES_OF_STEPS, SIGNS, SUMMARY, UNITS
from normlab.observe.depth import dead_share, log_log_slope, summarize_depth
from normlab.observe.gradients import initial_gradients
from normlab.observe.layers import PROBES, probe_deep
from normlab.observe.layers.angular import angular_distances
from normlab.observe.layers.attention import AttentionView
from normlab.observe.layers.outputs import LogitsView
from normlab.observe.layers.routing import Routing
from normlab.observe.layers.stream import StreamView, SublayerView
from normlab.observe.layers.units import TanhView, UnitsView
from normlab.observe.outcome import classify, first_bad_step
from normlab.observe.updates import StepProbe

Entries = Mapping[str, str]

# What ``observe/layers/watch.py`` puts before a statistic's name.
_PREFIXES: dict[type, tuple[str, ...]] = {
    SublayerView: ("attn", "ffn"), StreamView: ("stream",), AttentionView: ("attn",), UnitsView: ("ffn",),
    Routing: ("ffn",), TanhView: ("norm",), LogitsView: ("logits",),
}  # fmt: skip
_TITLES: dict[type, str] = {
    SublayerView: "The residual stream around each sublayer, a value per layer",
    StreamView: "The residual stream that leaves each block, a value per layer",
    AttentionView: "Attention, a value per layer; of at most 128 query rows",
    UnitsView: "The units of the FFN, a value per layer",
    Routing: "The router of a mixture of experts, a value per layer",
    TanhView: "DyT, a value per layer",
    LogitsView: "The output logits, a number",
}
_DEFINITION = re.compile(r"^( *)([a-z][\w.]*(?:, [a-z][\w.]*)*) {2,}(\S.*)$")


def metrics_page() -> str:
    """docs/metrics.md."""
    every_step = METRICS | {"grad_slope": f"{_said(log_log_slope)} {OF_GRADIENTS}", "dead_gradients": _said(dead_share)}
    updates = definitions(StepProbe.read)
    first = {"init_grad_norm, init_grad_norm.KIND": _said(initial_gradients)}
    depth = {_each(name, "depth.{}"): text for name, text in definitions(summarize_depth).items()}
    ends = {"outcome": _said(classify), "first_bad_step": _said(first_bad_step)}
    return "\n".join(
        [
            _INTRODUCTION,
            "## metrics.jsonl: every step\n",
            _table(every_step),
            "## probes.jsonl: looks inside\n",
            _LOOKS,
            "### The gradient and the update of that step\n",
            _table(PROBES_OF_STEPS | updates | first),
            *_statistics(),
            "### The deep look\n",
            _table(_registered(deep=True) | definitions(probe_deep) | {"angular_distance": _said(angular_distances)}),
            "## summary.json: the run\n",
            _table(ends | SUMMARY | depth),
            "## Signs of trouble\n",
            _SIGNS,
            table(["sign", "limit", "whose"], SIGNS),
        ]
    )


def names() -> set[str]:
    """Every name that the page explains."""
    found = re.findall(r"^\| `([^`]+)` \|", metrics_page(), flags=re.MULTILINE)
    return {name for cell in found for name in cell.split(", ")}


def definitions(function: Callable[..., Any]) -> dict[str, str]:
    """Of a docstring that lists ``name   text`` or ``one, other   text``, going on in deeper lines: the texts."""
    found: dict[str, str] = {}
    name, depth = "", 0
    for line in inspect.cleandoc(function.__doc__ or "").splitlines():
        indent = len(line) - len(line.lstrip())
        if match := _DEFINITION.match(line):
            depth, name = len(match[1]), match[2]
            found[name] = match[3]
        elif name and line.strip() and indent > depth:
            found[name] += f" {line.strip()}"
        else:
            name = ""
    return found


def _registered(deep: bool, kind: type | None = None) -> dict[str, str]:
    """The statistics of ``@probe``: of one kind of view, or of all."""
    return {
        ", ".join(f"{prefix}.{name}" for prefix in _PREFIXES[view]): _said(statistic.function)
        for view, statistics in PROBES.items()
        if kind is None or view is kind
        for name, statistic in statistics.items()
        if statistic.deep == deep
    }


def _each(joined: str, form: str) -> str:
    """``one, other`` with every name put into ``form``."""
    return ", ".join(form.format(name) for name in joined.split(", "))


def _statistics() -> Iterable[str]:
    for kind, title in _TITLES.items():
        yield f"### {title}\n"
        yield _table(_registered(deep=False, kind=kind))


def _said(function: Callable[..., Any]) -> str:
    """The first two paragraphs of a docstring, as a line: what follows is about arguments."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return " ".join(" ".join(paragraphs[:2]).split())


def _unit(name: str) -> str:
    return next((unit for unit, pattern in UNITS.items() if re.fullmatch(pattern, name.split(", ")[0])), "")


def _table(entries: Entries) -> str:
    """``table`` keeps the bars of a cell from being borders, so ``prose`` need not."""
    texts = {name: _sentence(text).replace("``", "`") for name, text in entries.items()}
    rows = ([f"`{name}`", _unit(name), prose(text).replace("\\|", "|")] for name, text in texts.items())
    return table(["name", "unit", "what it is, and whose"], rows)


def _sentence(text: str) -> str:
    """Begun with a capital, unless it begins with a formula."""
    return text[0].upper() + text[1:] if re.match(r"[a-z]{2,} ", text) else text


_INTRODUCTION = """\
# Metrics

<!-- Made from the docstrings of what computes them; `make docs` makes it anew. -->

Every number that a run leaves behind, under its name in the files of the run folder. The same names are in `normlab
compare` and, with `corpus.` for `data.`, in the frames of `normlab.load_runs`. A value that is not finite is `null`.
Without a unit: a pure number, or in the units of the weights and activations. Layers count from 1 here, blocks in names
of parameters from 0.

In wandb a dot becomes an underscore, and what a number is stands before it: `train/` and `val/` for metrics.jsonl
(`val/loss`, `train/grad_norm`), `network/` for a number of a look, `groups/NAME/GROUP` for a mapping, and for a value
per layer `layers/NAME/` with `first`, `middle`, `last`, `min` and `max`, and `heatmap/NAME` with all of them where none
is negative; `events/loss_spike` and `events/grad_norm_spike` mark spikes. The numbers of summary.json are in the run's
summary, as `final/val_loss` and `spikes/loss_events`.
"""
_LOOKS = """\
A row per look: before the first step, at `observe.probe_at` and `observe.deep_at`, every `observe.probe_every` steps
and after the last; at `observe.deep_at` and after the last it is a deep look too. One frozen batch of validation text
passes through the network eagerly, in float32 and in evaluation mode, apart from training: no number of the run depends
on it. Lists have a value per layer; what ends in `_group` has one per kind of matrix. Of a run that diverged, the last
rows are those of the steps before, with their gradients alone, and that of the step that broke.
"""
_SIGNS = """\
What the sentence in `diagnosis` looks for, and at which limit; the last two rows are for the reader. Levels of gradient
norms are not comparable between placements, their profiles over depth and time are: a network without norms may have a
small gradient and be well.
"""
