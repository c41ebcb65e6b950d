"""The page of metrics is the one that the sources give, and leaves out no number that a run writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import normlab
from normlab.config.identity import run_dir
from normlab.config.paths import shipped
from normlab.gallery.metrics_page import definitions, metrics_page, names


def test_the_committed_page_is_up_to_date() -> None:
    assert (shipped("docs") / "metrics.md").read_text() == metrics_page(), "run `make docs`"


def keys(plain: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in plain.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")


def undocumented(written: set[str], known: set[str]) -> set[str]:
    parts = ("init_grad_norm.", "params.", "diagnosis.", "nonfinite.")
    groups = tuple(f"{name}." for name in known if name.endswith(("_group", "update_log10")))
    within = {key for key in written if key.startswith((*parts, *groups))}
    containers = {key for key in written if any(name.startswith(f"{key}.") for name in known)}
    return written - known - within - containers


@pytest.mark.parametrize(
    "words",
    [
        ["placement=hybrid", "observe.init_batches=1", "observe.deep_at=[2]"],
        ["placement=pre", "norm=dyt", "model.ffn=relu2", "observe.deep_at=[2]"],
        ["model=moe_nano", "optim.lr=1e30", "optim.grad_clip=null"],  # it breaks
    ],
    ids=" ".join,
)
def test_every_name_that_a_run_writes_is_explained(tiny, words: list[str]) -> None:
    config = normlab.compose(tiny("train.steps=3", "optim.warmup_steps=0", *words))
    written = set(keys(normlab.train(config)))
    for file in ("metrics.jsonl", "probes.jsonl"):
        for line in (run_dir(config) / file).read_text().splitlines():
            written |= set(keys(json.loads(line)))
    assert len(written) > 80
    assert undocumented(written, names()) == set()


def test_a_name_without_words_would_be_found() -> None:
    assert undocumented({"loss", "novel", "grad_norm_group", "grad_norm_group.attn.q"}, names()) == {"novel"}


def test_definitions_in_a_docstring() -> None:
    def documented() -> None:
        """A row.

        By block, (L,):
            one_thing   its text, which
                        goes on
            a.b, a.c    two at once
        And no more of it.
        """

    assert definitions(documented) == {"one_thing": "its text, which goes on", "a.b, a.c": "two at once"}
