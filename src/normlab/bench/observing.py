"""What watching a run costs, and that the scalars of every step wait for nothing."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from normlab.bench.measure import Contestant, Spread, Timing, compete, cuda_synchronise, ratio
from normlab.bench.naive_hooks import NaiveTraining
from normlab.bench.ours import OurTraining, random_tokens
from normlab.bench.record import Section, percent, seconds
from normlab.bench.shapes import Given, in_words, plain_facts, shapes, with_train
from normlab.bench.view import View
from normlab.config.compose import compose
from normlab.config.schema import Config

NONE, SCALARS, EVERYTHING = "nothing observed", "scalars of every step", "everything, every step"
EAGER, NAIVE = "nothing observed, not compiled", "naive hooks, every step, not compiled"
_PROFILED = 5  # steps
_PORTIONS = 15  # turns of each; the shortest counts: what a machine that is not quiet adds is only ever more
# What a host that reads a value, or waits for its device, leaves in a trace; the first two also on a CPU.
WAITS = (
    "aten::item", "aten::_local_scalar_dense", "cudaStreamSynchronize", "cudaDeviceSynchronize",
    "cudaEventSynchronize",
)  # fmt: skip
_OPTIMIZER = "Optimizer.step#"  # the range that torch marks around optimizer.step()


def run(given: Given, timing: Timing, threads: int, view: View) -> list[Section]:
    """A section per shape."""
    return [_section(name, compose(words), timing, threads, view) for name, words in shapes(given).items()]


def _section(name: str, config: Config, timing: Timing, threads: int, view: View) -> Section:
    torch.set_num_threads(threads)
    # A graph's step would be compared with one that is none.
    config = with_train(config, cuda_graph=False)
    eager = with_train(config, compile="off")
    with tempfile.TemporaryDirectory() as folder:
        tokens = random_tokens(config, Path(folder))
        training = OurTraining(config, tokens, Path(folder))
        training.warm_up()
        naive = NaiveTraining(eager, tokens, Path(folder))
        contestants = [
            Contestant(NONE, training.train_unobserved),
            Contestant(SCALARS, training.train),
            Contestant(EVERYTHING, training.look),
            *([Contestant(EAGER, naive.train_unobserved)] if training.step.compiled else []),
            Contestant(NAIVE, naive.train_naively),
        ]
        view.phase(f"observing, {name}", len(contestants) * (timing.rounds + 1))
        synchronise = cuda_synchronise(training.hardware.device.type)
        measured = compete(contestants, timing, threads, synchronise, view.tick)
        added = added_by_scalars(training) if training.hardware.device.type == "cpu" else None
        waits = count_waits(training)
        naive_waits = count_waits(naive, work=lambda _: naive.train_naively(1))
    return _tabulate(name, config, training, measured, added, waits, naive_waits)


@dataclass(frozen=True)
class Waits:
    """How often each of ``WAITS`` happens in so many steps. torch's fused AdamW for CPUs reads its own step counters,
    which lie in the CPU's memory: ``in_optimizer``. What observing would add is in ``elsewhere``."""

    steps: int
    in_optimizer: Counter[str]
    elsewhere: Counter[str]


def count_waits(training: OurTraining, steps: int = _PROFILED, work: Callable[[Tensor], object] | None = None) -> Waits:
    """Trace so many training steps, their batches being there already; or ``work`` in place of a step."""
    cuda = training.hardware.device.type == "cuda"
    batches = [training.batch(number) for number in range(steps)]
    if cuda:
        torch.cuda.synchronize()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with _quiet(), profile(activities=activities, acc_events=True) as trace:
        for batch in batches:
            work(batch) if work else training.step(batch, training.config.optim.lr)
    waits = Waits(steps, Counter(), Counter())
    for event in trace.events() or []:
        if event.name in WAITS:
            (waits.in_optimizer if _within_optimizer(event) else waits.elsewhere)[event.name] += 1
    if cuda:  # the profiler itself waits once, when it stops
        waits.elsewhere.subtract({"cudaDeviceSynchronize": min(1, waits.elsewhere["cudaDeviceSynchronize"])})
    return waits


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the profiler's library itself writes to the standard error, past Python."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _within_optimizer(event: Any) -> bool:
    while event is not None:
        if event.name.startswith(_OPTIMIZER):
            return True
        event = event.cpu_parent
    return False


def added_by_scalars(training: OurTraining) -> float:
    """Seconds of CPU time that measuring, reading and writing the scalars adds to a step, by itself: the difference of
    two updates without forward and backward, each the shortest of many portions."""
    portion = training.config.observe.flush_every
    shortest = [math.inf, math.inf]
    with training.gradients_given():
        for _ in range(_PORTIONS):
            for which, work in enumerate((training.train_unobserved, training.train)):
                began = time.process_time()
                work(portion)
                shortest[which] = min(shortest[which], (time.process_time() - began) / portion)
    return shortest[1] - shortest[0]


def observed(measured: Mapping[str, Spread], probe_every: int) -> Spread:
    """Seconds per step of an observed run, round by round: its scalars, and its share of a look."""
    scalars, looks = measured[SCALARS].values, measured[EVERYTHING].values
    return Spread([s + (look - s) / probe_every for s, look in zip(scalars, looks, strict=True)])


def _tabulate(
    name: str,
    config: Config,
    training: OurTraining,
    measured: Mapping[str, Spread],
    added: float | None,
    waits: Waits,
    naive_waits: Waits,
) -> Section:
    observe = config.observe
    whole = observed(measured, observe.probe_every)
    section = Section(
        f"Cost of observing, {name}: {in_words(config)}",
        ["", "step", "beside nothing observed"],
        {"shape": name, **plain_facts(config), "precision": training.hardware.precision,
         "compiled": training.step.compiled, "flush_every": observe.flush_every, "probe_every": observe.probe_every,
         "profiled_steps": waits.steps, "waits": dict(waits.elsewhere),
         "waits_in_optimizer": dict(waits.in_optimizer), "waits_of_naive_hooks": dict(naive_waits.elsewhere),
         "scalars_add_cpu_seconds": added},
    )  # fmt: skip
    default = f"the default: scalars, and a look every {observe.probe_every} steps"
    names = [NONE, SCALARS, default, *(name for name in measured if name not in (NONE, SCALARS))]
    for who in names:
        spread = whole if who == default else measured[who]
        beside = ratio(spread, measured[NONE])
        row = {"name": who, "seconds_per_step": spread.plain(), "relative": beside.plain()}
        section.add(row, who, seconds(spread.median), "" if who == NONE else percent(beside))
    section.notes = [
        "Every run also looks inside at its start, at steps 1, 10 and 100, and once more deeply at its end.",
        "Naive hooks read the RMS and the maximum of every sublayer's output, and every parameter's gradient norm: "
        f"{naive_waits.elsewhere['aten::item'] / naive_waits.steps:.0f} times a step the host waits for a number.",
    ]
    if added is not None:
        share, look = added / measured[NONE].median, ratio(measured[EVERYTHING], measured[SCALARS]).median - 1
        section.notes.append(
            f"By themselves the scalars add {1e3 * added:.2f} ms of CPU time, {share:.2%} of a step; a look takes "
            f"{look:.0%} of one, {look / observe.probe_every:.2%} at one in {observe.probe_every}."
        )
    if waits.in_optimizer:
        reads = waits.in_optimizer["aten::item"] / waits.steps
        section.notes.append(f"torch's AdamW reads its own step counters, {reads:.0f} a step, in the CPU's memory.")
    total = sum(waits.elsewhere.values())
    never = (
        f"the scalars of {waits.steps} traced steps waited {total} times" if total else "a step's scalars never wait"
    )
    default_cost, dear = (percent(ratio(of, measured[NONE])) for of in (whole, measured[EVERYTHING]))
    section.verdict = (
        f"Observing costs {default_cost} of a step by default, {dear} with a look at every step, "
        f"and {naive_cost(measured)}; {never}."
    )
    return section


def naive_cost(measured: Mapping[str, Spread]) -> str:
    """Naive hooks beside nothing observed; where that is compiled, which hooks cannot be, beside eager steps too."""
    beside = percent(ratio(measured[NAIVE], measured[NONE]))
    if EAGER not in measured:
        return f"{beside} with naive hooks"
    of_eager = percent(ratio(measured[NAIVE], measured[EAGER]))
    return f"{beside} with naive hooks, which keep it from being compiled ({of_eager} of one that is not compiled)"
