"""Perplexity of held-out domains, by what ``normlab eval --perplexity`` left in the run folders."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import fmean
from typing import Any

from normlab.evaluations import domain_file
from normlab.report.assemble import assemble, setting_columns
from normlab.report.comparison import Comparison
from normlab.report.evaluations import (
    Found,
    Records,
    differing,
    find_records,
    first_record,
    mark,
    missing_note,
    published_columns,
    spread_cell,
)
from normlab.report.notes import notes_on_runs
from normlab.report.paper import sources
from normlab.report.row import Row
from normlab.report.table import Cell, Column, Table, table

_GROUP = "Perplexity"


@table("domains")
def domains(comparison: Comparison) -> Table:
    """A column per domain of the experiment, perplexity per token, and the mean loss over them."""
    names, full = comparison.experiment.domains, len(comparison.experiment.reported_seeds)
    found = find_records(comparison.rows, names, domain_file)
    made = setting_columns(comparison)
    first = len(made)
    for name in names:
        fields = tuple(f"{name}_{part}" for part in ("ppl_mean", "ppl_sd", "n", "loss_mean", "bits_per_byte_mean"))
        made.append((Column(name, fields, _GROUP), partial(_cell, found[name], full)))
    if names:
        fields = ("mean_loss_mean", "mean_loss_sd", "mean_loss_n")
        made.append((Column("Mean loss", fields), partial(_mean_loss, found, full)))
    made += published_columns(comparison, "perplexity")
    notes = notes_on_runs(comparison, [*_notes(comparison, found), *sources(comparison, "perplexity")])
    sentence = "Perplexity per token of held-out text, mean ± sd over seeds."
    whole = assemble("domains", comparison, sentence, made, notes)
    for column in range(first, first + len(names) + bool(names)):
        mark([cells[column] for cells in whole.rows], highest=False, full=full)
    return whole


def _cell(of_rows: Mapping[int, Records], full: int, row: Row) -> Cell:
    known = [record for record in of_rows[id(row)].values() if record["perplexity"] is not None]
    means = [fmean(record[key] for record in known) if known else None for key in ("loss", "bits_per_byte")]
    return spread_cell([record["perplexity"] for record in known], 2, full, (*means,))


def _mean_loss(found: Found, full: int, row: Row) -> Cell:
    """Nats per token, over the domains of each seed that has them all, each domain alike, then over seeds."""
    by_domain = [rows[id(row)] for rows in found.values()]
    whole = set.intersection(*(set(of_row) for of_row in by_domain))
    return spread_cell([fmean(of_row[seed]["loss"] for of_row in by_domain) for seed in sorted(whole)], 4, full)


def _notes(comparison: Comparison, found: Found) -> list[str]:
    ever = {name: first_record(rows) for name, rows in found.items()}
    texts = [f"{name}: {_text(record)}, {record['tokens']:,} tokens" for name, record in ever.items() if record]
    return [
        *missing_note(comparison, found, "domains"),
        *differing(found, ("text", "tokenizer", "context", "tokens")),
        f"Texts: {'; '.join(texts)}." if texts else "",
        "In the run's own tokens and windows of its context, an end of text after every document; a text of that name "
        "elsewhere is another text: compare rows, not papers." if texts else "",
        "Bold: best mean of a column, underlined: second; neither says that the difference is real." if texts else "",
    ]  # fmt: skip


def _text(record: Mapping[str, Any]) -> str:
    text = record["text"]
    if text["source"] == "hub":
        return " ".join(str(text[key]) for key in ("hub_id", "hub_config", "split") if text.get(key))
    return ", ".join(text.get("val_paths") or text.get("paths") or [text["source"]])
