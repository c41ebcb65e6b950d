"""``normlab sweep --dry-run``: the cells, how far each is, what the rest costs. Starts and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab.config.identity import run_dir, treatment_hash
from normlab.config.schema import Config
from normlab.experiment.grid import Cell, cells, cells_of_command_line
from normlab.experiment.schema import Experiment, load_experiment
from normlab.experiment.trials import with_trials
from normlab.quantities import count, duration
from normlab.results import FINISHED
from normlab.sweep.cost import Cost, Pace, cost_of, knows_vocabulary
from normlab.sweep.slots import slots
from normlab.sweep.state import RunState, checkpoint_step, read_state
from normlab.sweep.tuning import asked_cells, choose, method_of, tuning_cells

_WIDTH = 170  # where the output is no terminal and cannot be asked


@dataclass(frozen=True)
class _Row:
    """A run, or ``runs`` of them that are alike and of which nobody knows yet which they are."""

    settings: tuple[str, ...]
    config: Config
    state: RunState | None = None
    step: int = 0  # from which it goes on
    runs: int = 1

    @property
    def is_done(self) -> bool:
        return self.state is not None and self.state.status in FINISHED

    @property
    def cost(self) -> Cost:
        """Of what is left to do."""
        steps = self.config.train.steps
        return cost_of(self.config).part(steps if self.is_done else self.step, steps).times(self.runs)


def print_plan(name: str | None, overrides: Sequence[str], tflops: float | None) -> None:
    """The plan of an experiment, or without ``name`` of the sweep that ``overrides`` are."""
    if name:
        experiment = load_experiment(name, overrides)
        found = cells(experiment, overrides)
        if experiment.search:
            experiment = with_trials(experiment, run_dir(found[0].config).parents[1])
            found = cells(experiment, overrides)
        keys = _factors(found)
        rows = [_row(cell, keys) for cell in asked_cells(experiment, found)] + _not_known_yet(experiment, found, keys)
    else:
        found = cells_of_command_line(overrides)
        keys = _factors(found)
        rows = [_row(cell, keys) for cell in found]
    pace = Pace({Path(row.config.runs_dir) for row in rows}, None if tflops is None else tflops * 1e12)
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH)
    console.print(_table(rows, keys, pace))
    for line in _totals(rows, pace, tflops):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _factors(found: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(key for cell in found for key in cell.factors))


def _row(cell: Cell, keys: Sequence[str]) -> _Row:
    settings = (*(cell.factors.get(key, "") for key in keys), str(cell.seed))
    folder = run_dir(cell.config)
    state = read_state(folder, treatment_hash(cell.config))
    step = state.step if state.status == "running" else min(state.step, checkpoint_step(folder))
    return _Row(settings, cell.config, state, step)


def _not_known_yet(experiment: Experiment, found: Sequence[Cell], keys: Sequence[str]) -> list[_Row]:
    """The runs whose tuned value follows from others: what a search has left to try, what reports at the best."""
    tune, rows = experiment.tune, []
    if tune is None:
        return []
    chosen = choose(experiment, found).values
    judging = tuning_cells(experiment, found)
    for method, cell in {method_of(cell, tune): cell for cell in judging}.items():
        left = 0
        if experiment.search:
            tried = {other.factors[tune] for other in judging if method_of(other, tune) == method}
            left = max(0, experiment.search.trials - len(tried))
        asked = {f"{left} to be tried": (left, experiment.judging_seeds)} if left else {}
        if experiment.tune_seeds and (left or method not in chosen):
            asked["the best"] = (1, experiment.reported_seeds)
        for value, (values, seeds) in asked.items():
            settings = (*(dict(method).get(key, value) for key in keys), ",".join(map(str, seeds)))
            rows.append(_Row(settings, cell.config, runs=values * len(seeds)))
    return rows


def _table(rows: Sequence[_Row], keys: Sequence[str], pace: Pace) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (*keys, "seed", "state", "parameters", "tokens", "FLOPs", "hours", "run"):
        left = title in (*keys, "state", "run")
        table.add_column(title, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        folder = str(run_dir(row.config)) if row.state else f"{row.runs} run{'s' * (row.runs > 1)}"
        cost = row.cost
        figures = (
            [count(cost.parameters), count(cost.tokens), f"{cost.flops:.2g}", _hours(pace.seconds(row.config, cost))]
            if not row.is_done
            else [count(cost.parameters), "", "", ""]
        )
        table.add_row(*(Text(word) for word in (*row.settings, _state(row), *figures, folder)))
    return table


def _state(row: _Row) -> str:
    if row.state is None:
        return "later"
    if row.state.status in (*FINISHED, "running", "damaged"):
        return row.state.status
    done = f"to do from step {row.step}/{row.config.train.steps}" if row.step else "to do"
    return f"{done} (failed before)" if row.state.status == "failed" else done


def _totals(rows: Sequence[_Row], pace: Pace, tflops: float | None) -> list[str]:
    to_do = [row for row in rows if not row.is_done]
    counts = Counter({"done": sum(row.is_done for row in rows), "to do": sum(row.runs for row in to_do)})
    counts["begun"] = sum(bool(row.step) for row in to_do)
    words = [f"{counts['done']} done", f"{counts['to do']} to do"]
    words += [f"{counts['begun']} of them begun"] if counts["begun"] else []
    lines = [f"{counts['done'] + counts['to do']} runs: {', '.join(words)}. Nothing was started."]
    if not to_do:
        return lines
    tokens, flops = sum(row.cost.tokens for row in to_do), sum(row.cost.flops for row in to_do)
    seconds = [pace.seconds(row.config, row.cost) for row in to_do]
    known = [duration for duration in seconds if duration is not None]
    line = f"What is left: {count(tokens)} tokens, {flops:.3g} FLOPs"
    if known:
        source = f"at {tflops:g} TFLOP/s" if tflops else "at the pace of runs of the same shape that are done"
        line += f", {duration(sum(known))} {source}, one after the other"
        at_once = _at_once(rows[0].config)
        if at_once > 1:
            longest = max(value / row.runs for value, row in zip(seconds, to_do, strict=True) if value is not None)
            line += f"; about {duration(max(longest, sum(known) / at_once))} with {at_once} at once"
    lines.append(line + ".")
    if len(known) < len(to_do):
        what = "all" if not known else f"{len(to_do) - len(known)} rows"
        lines.append(f"Hours of {what} are not known: no run of that shape is done here; give --tflops X.")
    lines.append(
        "FLOPs: 6 N + attention, per trained token (PaLM, appendix B); validation and looks inside come on top."
    )
    if not all(knows_vocabulary(row.config) for row in to_do):
        lines.append("The output head is not counted where the tokenizer is read with the data.")
    return lines


def _at_once(config: Config) -> int:
    """How many runs at once; 0 where only the cluster knows."""
    launch = config.launch
    if launch.engine == "local":
        return len(slots(launch, config.train.device))
    cells = min(launch.cells_at_once, launch.cells_per_task) if launch.engine == "slurm" else 1
    return (launch.jobs or 0) * cells


def _hours(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 3600:.3g}"
