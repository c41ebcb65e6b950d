"""What an experiment file may say.

question: Does HybridNorm beat Pre-Norm at equal data and compute?
overrides: [scale=cpu, data=stdlib]            # held equal in every cell
grid: {placement: [pre, hybrid], optim.lr: [1e-3, 3e-3]}   # the product; a list of mappings is their union
seeds: [0, 1, 2]
baseline: {placement: pre}
tune: optim.lr                                  # each row of a table at its own best value,
tune_seeds: [9]                                 # which these seeds choose and the others report
tables: [main]
figures: [loss_curves, gradient_depth]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from normlab.config.paths import find_yaml
from normlab.config.problems import explain_validation
from normlab.errors import UserError
from normlab.placement.schema import Strict

Value = str | int | float | bool | None
Product = dict[str, list[Value]]
Metric = Literal["val_loss", "val_bpb", "train_loss", "best_val_loss"]  # what a run's summary.json ends with


class PaperColumn(Strict):
    """Numbers that somebody published, to stand beside ours, marked as theirs."""

    source: str  # as it should be cited, with the table's number
    metric: str  # what the numbers are: "C4 perplexity"
    values: dict[str, Value]  # row label -> number, or a word such as "diverges"


class Experiment(Strict):
    """One claim and how it is put to the test."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    question: str
    overrides: list[str] = []  # as on the command line, held equal in every cell
    grid: list[Product]
    seeds: list[int] = Field([0], min_length=1)
    baseline: dict[str, Value] = {}  # which cells the others are compared with, by factor
    tune: str | None = None  # a factor of the grid of which each row takes its own best value
    tune_seeds: list[int] = []  # seeds that try every value, choose and are not reported; empty: the reported ones do
    metric: Metric = "val_loss"
    tables: list[str] = ["main"]
    figures: list[str] = []
    paper: list[PaperColumn] = []

    @field_validator("grid", mode="before")
    @classmethod
    def _one_product_is_a_union_of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _factors_are_declared(self) -> Experiment:
        for factor in [*self.baseline, *([self.tune] if self.tune else [])]:
            if factor not in self.factors:
                raise ValueError(f"'{factor}' is no factor of the grid; its factors are {', '.join(self.factors)}")
        if self.tune_seeds and not self.tune:
            raise ValueError("tune_seeds choose the value of a factor: name it, for example `tune: optim.lr`")
        if self.tune_seeds and not self.reported_seeds:
            raise ValueError("tune_seeds holds every seed: none is left to report; add one to seeds")
        if without := [product for product in self.grid if self.tune and self.tune not in product]:
            raise ValueError(
                f"tune: {self.tune} has no values in the product of {', '.join(without[0]) or 'nothing'}; "
                "every product of the grid needs some, one will do"
            )
        if "seed" in self.factors:
            raise ValueError("seeds stand under `seeds`, not in the grid: they are replicates, not a factor")
        return self

    @property
    def reported_seeds(self) -> list[int]:
        """The seeds whose results stand in a table: all but those that only choose the tuned value."""
        return [seed for seed in self.seeds if seed not in self.tune_seeds]

    @property
    def factors(self) -> list[str]:
        """The keys that the grid varies, in the order in which the file names them."""
        return list(dict.fromkeys(key for product in self.grid for key in product))


def load_experiment(name_or_path: str) -> Experiment:
    """Read ``experiments/NAME.yaml`` or a path. Raises UserError in one line for whatever is wrong with it."""
    path = find_yaml(name_or_path, "experiments")
    try:
        plain = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(plain, dict):
        raise UserError(f"{path}: an experiment is a mapping with at least `question` and `grid`")
    try:
        return Experiment.model_validate({"name": Path(path).stem, **plain})
    except ValidationError as error:
        raise UserError(f"{path}: {explain_validation(error, Experiment)}") from None
