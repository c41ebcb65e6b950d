"""What an experiment file may say.

question: Does HybridNorm beat Pre-Norm at equal data and compute?
overrides: [scale=cpu, data=stdlib]            # held equal in every cell
grid: {placement: [pre, hybrid], optim.lr: [1e-3, x2]}     # the product; a list of mappings is their union;
                                                # x2: twice what the scale holds
at: {paper: {grid: {model: [paper_550m]}, seeds: [1]}}     # what a scale changes besides: sizes and budget
runs: placements                                # the folder of runs, where experiments share theirs
seeds: [0, 1, 2]
baseline: {placement: pre}
tune: optim.lr                                  # each row of a table at its own best value,
tune_seeds: [9]                                 # which these seeds choose and the others report
                                                # or, instead of values in the grid, a search for each row,
                                                # {search: optuna, key: optim.lr, low: 1e-4, high: 1e-2, trials: 10}
tables: [main, across]
across: init                                    # the table `across` has a spanning head for each of its values
groups: {Whole blocks: [pre, post]}             # rows under headings, by their placement
figures: [loss_curves, gradient_depth]
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from normlab.config.paths import find_yaml, read_mapping
from normlab.config.problems import explain_validation
from normlab.errors import UserError, nearest
from normlab.experiment.scales import (
    Product,
    Value,
    at_scale,
    check_scale,
    has_multiples,
    scale_of,
    with_numbers,
)
from normlab.placement.schema import Strict
from normlab.quantities import as_number

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Metric = Literal["val_loss", "val_bpb", "train_loss", "best_val_loss"]  # what a run's summary.json ends with


class PaperColumn(Strict):
    """Numbers that somebody published, to stand beside ours, marked as theirs."""

    source: str  # as it should be cited, with the table's number
    metric: str  # what the numbers are: "C4 perplexity"
    values: dict[str, Value]  # row label -> number, or a word such as "diverges"

    @field_validator("values")
    @classmethod
    def _numbers(cls, values: dict[str, Value]) -> dict[str, Value]:
        """1e-3 is a word to YAML."""
        words = {label: as_number(value) for label, value in values.items() if isinstance(value, str)}
        return values | {label: number for label, number in words.items() if number is not None and isfinite(number)}


class Search(Strict):
    """The best value of a number, looked for between two bounds by each row of a table for itself.

    The first half of the ``trials`` is spread evenly from ``low`` to ``high``, the same for every row; where the rest
    go is Optuna's to say, of each row from its own.
    """

    search: Literal["optuna"]
    key: str
    low: float
    high: float
    log: bool = True  # evenly in the logarithm
    trials: int = Field(8, ge=3)
    seed: int = Field(0, ge=0, lt=2**16)  # of Optuna's sampler

    @model_validator(mode="after")
    def _bounds(self) -> Search:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"tune: low={self.low:g}, high={self.high:g}: low is less" + " and more than 0" * self.log)
        # The loop that looks for a value nobody has tried needs one.
        values = len(set(self._spread(100 * self.trials)))
        if values < self.trials:
            raise ValueError(
                f"tune: between low={self.low:g} and high={self.high:g} lie {values} values of three digits, fewer "
                f"than trials={self.trials}; set the bounds further apart"
            )
        return self

    @property
    def first(self) -> list[Value]:
        """The values that every row tries."""
        return list(self._spread(max(2, self.trials // 2)))

    def _spread(self, count: int) -> list[float]:
        shares = [index / (count - 1) for index in range(count)]
        ratio = self.high / self.low if self.log else 1.0
        spread = [
            self.low * ratio**share if self.log else self.low + (self.high - self.low) * share for share in shares
        ]
        return [rounded(value) for value in spread]


class Experiment(Strict):
    """One claim and how it is put to the test."""

    name: str = Field(pattern=_NAME)
    question: str
    overrides: list[str] = []  # as on the command line, held equal in every cell
    grid: list[Product]
    runs: str | None = Field(None, pattern=_NAME)  # whose folder of runs it shares; None: its own
    seeds: list[int] = Field([0], min_length=1)
    baseline: dict[str, Value] = {}  # which cells the others are compared with, by factor
    tune: str | None = None  # a factor of the grid of which each row takes its own best value
    search: Search | None = None  # what `tune` says where it is a mapping; its first values are in the grid then
    tune_seeds: list[int] = []  # seeds that try every value, choose and are not reported; empty: the reported ones do
    metric: Metric = "val_loss"
    tables: list[str] = ["main"]
    across: str | None = None  # a factor whose values stand side by side, each under a head of its own
    groups: dict[str, list[Value]] = {}  # heading -> values of `grouped_factor`: rows in that order
    tasks: list[str] = []  # the columns of the table `downstream`: tasks of `normlab eval`
    domains: list[str] = []  # the columns of the table `domains`: held-out sources of `normlab eval --perplexity`
    figures: list[str] = []
    paper: list[PaperColumn] = []

    @model_validator(mode="before")
    @classmethod
    def _a_search_is_a_factor(cls, plain: Any) -> Any:
        """``tune: {search: ...}`` as a factor of every product, with the values that each row tries first."""
        if not isinstance(plain, dict) or not isinstance(tune := plain.get("tune"), dict):
            return plain
        search = Search.model_validate(tune)
        grid = plain.get("grid") or [{}]
        products = [grid] if isinstance(grid, dict) else grid
        if any(search.key in product for product in products):
            raise ValueError(f"tune: {search.key} is searched for: its values do not stand in the grid as well")
        searched = [{**product, search.key: search.first} for product in products]
        return {**plain, "tune": search.key, "search": search, "grid": searched}

    @field_validator("grid", mode="before")
    @classmethod
    def _one_product_is_a_union_of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _factors_are_declared(self) -> Experiment:
        for factor in [*self.baseline, *filter(None, [self.tune, self.across])]:
            if factor not in self.factors:
                raise ValueError(f"'{factor}' is no factor of the grid; its factors are {', '.join(self.factors)}")
        known = [str(value) for product in self.grid for value in product.get(self.grouped_factor, [])]
        for heading, values in self.groups.items():
            for value in values:
                if str(value) not in known:
                    raise ValueError(
                        f"groups: {heading}: '{value}' is no {self.grouped_factor} of the grid; "
                        f"{nearest(str(value), known)}"
                    )
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
    def folder(self) -> str:
        """The folder below ``runs/`` that its runs are in."""
        return self.runs or self.name

    @property
    def reported_seeds(self) -> list[int]:
        """The seeds whose results stand in a table: all but those that only choose the tuned value."""
        return [seed for seed in self.seeds if seed not in self.tune_seeds]

    @property
    def judging_seeds(self) -> list[int]:
        """The seeds that choose the tuned value."""
        return self.tune_seeds or self.seeds

    @property
    def factors(self) -> list[str]:
        """The keys that the grid varies, in the order in which the file names them."""
        return list(dict.fromkeys(key for product in self.grid for key in product))

    @property
    def grouped_factor(self) -> str:
        """The factor whose values ``groups`` lists: the placement, or the grid's first where that is none."""
        return "placement" if "placement" in self.factors else next(iter(self.factors), "placement")


def rounded(value: float) -> float:
    """Three digits that count: what a person reads in a folder's name is what was run."""
    return float(f"{value:.3g}")


def load_experiment(name_or_path: str, overrides: Sequence[str] = ()) -> Experiment:
    """Read ``experiments/NAME.yaml`` or a path, at the scale that ``overrides`` or the file name.

    Raises UserError in one line for whatever is wrong with it.
    """
    path = find_yaml(name_or_path, "experiments")
    check_scale(overrides)
    plain = read_mapping(path, "an experiment is a mapping with at least `question` and `grid`")
    try:
        experiment = Experiment.model_validate({"name": Path(path).stem, **at_scale(plain, overrides)})
    except ValidationError as error:
        raise UserError(f"{path}: {explain_validation(error, Experiment)}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    if scale := scale_of(overrides):
        experiment = experiment.model_copy(update={"overrides": [*experiment.overrides, f"scale={scale}"]})
    named = [*experiment.grid, {key: [value] for key, value in experiment.baseline.items()}]
    if not has_multiples(named):
        return experiment
    try:
        *grid, baseline = with_numbers(named, experiment.overrides)
        first = {key: values[0] for key, values in baseline.items()}
        return experiment.model_copy(update={"grid": grid, "baseline": first})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
