"""No experiment file can rot: each one's cells are valid, and the first of them runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import normlab
from normlab.config.paths import shipped
from normlab.experiment import load_experiment
from normlab.experiment.grid import cells
from normlab.report import check_parts

FILES = sorted(shipped("experiments").glob("*.yaml"))
SMALL = ["model.n_layers=2", "model.d_model=32", "model.n_heads=2", "model.n_kv_heads=1", "model.d_ff=32"]
SHORT = ["train.steps=2", "optim.warmup_steps=1", "train.batch_size=2", "train.micro_batch_size=null",
         "train.seq_len=32", "train.compile=off", "train.threads=1", "eval.windows=2", "wandb=disabled"]  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_cell_is_valid_and_the_report_knows_its_parts(file: Path) -> None:
    experiment = load_experiment(str(file))
    assert len(cells(experiment)) >= 2
    check_parts(experiment)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_first_cell_trains_two_steps(file: Path, tmp_path: Path, corpus: Path) -> None:
    text = ["data=files", f"data.paths=[{corpus}]", "data.tokenizer.kind=bytes", f"runs_dir={tmp_path}"]
    cell = cells(load_experiment(str(file)), [*SMALL, *SHORT, *text])[0]
    assert normlab.train(cell.config)["steps"] == 2
