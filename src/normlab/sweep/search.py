"""Where a search tries next: Optuna's answer to what the runs on disk say.

Nothing of Optuna's is stored. Each answer follows from the values tried, their results and a seed, so that a search
which was cut goes on as if it had not been, and a trial that is asked for again is a run that is done.
"""

from __future__ import annotations

import importlib.util
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from normlab.config.identity import run_dir
from normlab.errors import UserError
from normlab.experiment.grid import Cell
from normlab.experiment.schema import Experiment, Search, rounded
from normlab.experiment.trials import Method, methods
from normlab.experiment.tuning import final_result, score
from normlab.sweep.state import result_of
from normlab.sweep.tuning import method_of, tuning_cells

Results = Mapping[float, Sequence[float | None]]  # value -> final metric of each run, smaller is better; None: lost


def check_optuna() -> None:
    """Raise UserError where it is not installed: before a sweep runs."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("tune: {search: optuna} needs optuna: pip install 'normlab[tune]'")


def next_trials(experiment: Experiment, cells: Sequence[Cell]) -> dict[Method, float]:
    """The value that each row tries next; none for a row that has tried enough, or has a run that has not ended."""
    search, tried = experiment.search, _tried(experiment, cells)
    assert search is not None
    known = methods(experiment)
    if strange := [method for method in tried if method not in known]:
        keys = ", ".join(key for key, _ in strange[0] if key not in experiment.factors)
        raise UserError(f"{keys} takes several values on the command line: a search takes them from its file")
    return {
        method: propose(search, results)
        for method, results in tried.items()
        if results is not None and len(results) < search.trials
    }


def propose(search: Search, results: Results) -> float:
    """The value to try after those of ``results``. The same for the same results, in any process."""
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bounds: BaseDistribution = FloatDistribution(search.low, search.high, log=search.log)
    sampler = optuna.samplers.TPESampler(n_startup_trials=0, seed=(search.seed << 16) + len(results))
    study = optuna.create_study(sampler=sampler)
    for value, ended in sorted(results.items()):
        inside = min(max(value, search.low), search.high)  # a bound may have been rounded beyond itself
        params, distributions = {search.key: inside}, {search.key: bounds}
        study.add_trial(create_trial(params=params, distributions=distributions, value=_objective(ended)))
    while True:
        asked = study.ask({search.key: bounds})
        value = rounded(asked.params[search.key])
        if value not in results:
            return value
        study.tell(asked, _objective(results[value]))


def _objective(ended: Sequence[float | None]) -> float:
    """A value that loses a run is worse than any that does not; see ``experiment.tuning.score``."""
    lost, mean = score(ended)
    return math.inf if lost else mean


def _tried(experiment: Experiment, cells: Sequence[Cell]) -> dict[Method, Results | None]:
    """What each row has tried, on all seeds that judge; None where a run has not ended."""
    factor = str(experiment.tune)
    found: dict[Method, dict[float, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    open_rows = set()
    for cell in tuning_cells(experiment, cells):
        if summary := result_of(run_dir(cell.config)):
            found[method_of(cell, factor)][float(cell.factors[factor])].append(final_result(summary, experiment.metric))
        else:
            open_rows.add(method_of(cell, factor))
    rows = dict.fromkeys(method_of(cell, factor) for cell in cells)
    return {method: None if method in open_rows else found[method] for method in rows}
