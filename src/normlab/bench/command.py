"""Run a benchmark by its name: measure, print, write."""

from __future__ import annotations

import importlib
from dataclasses import replace

import torch

from normlab.allocator import keep_freed_memory
from normlab.bench.machine import cores
from normlab.bench.measure import Timing
from normlab.bench.record import Record, show
from normlab.bench.shapes import Given, is_cuda
from normlab.bench.view import View
from normlab.config.overrides import key_of
from normlab.errors import UserError, nearest

# In the order of `normlab bench all`: a module of this package each, with `run`, and with how long to measure.
BENCHMARKS = {
    "throughput": Timing(rounds=7, seconds=3.0),
    "data": Timing(rounds=3, seconds=None, warm_up=1),
    "placements": Timing(rounds=5, seconds=1.0),
    "norms": Timing(rounds=5, seconds=0.2, warm_up=3),
    "attention": Timing(rounds=7, seconds=0.3, warm_up=3),
    "observing": Timing(rounds=9, seconds=3.0),
    "startup": Timing(rounds=3, seconds=None, warm_up=0),
    "memory": Timing(rounds=3, seconds=None, warm_up=0),
    "sweep": Timing(rounds=3, seconds=None, warm_up=0),
}
_QUICK_ROUNDS, _QUICK_SECONDS = 3, 0.3
_SHAPED = ("throughput", "placements", "observing")  # those that know shapes by name
_PARTS = ("norms", "attention")  # parts of a run without one, measured with memory treated as a run does
_CPU_ONLY = ("data", "sweep")


def run_benchmarks(name: str, given: Given) -> None:
    """One of ``BENCHMARKS``, or ``all`` of them in turn. Raises UserError for an unknown one."""
    if name != "all" and name not in BENCHMARKS:
        raise UserError(f"unknown benchmark '{name}'; {nearest(name, [*BENCHMARKS, 'all'])}")
    if given.shape is not None and name not in _SHAPED:
        raise UserError(f"--shape belongs to {', '.join(_SHAPED)}; the others take KEY=VALUE")
    for each in BENCHMARKS if name == "all" else [name]:
        _run(each, given)


def _run(name: str, given: Given) -> None:
    timing = BENCHMARKS[name]
    if given.quick:
        # Work that takes seconds by itself is looked at once.
        timing = replace(timing, rounds=_QUICK_ROUNDS if timing.seconds else 1)
        timing = replace(timing, seconds=timing.seconds and min(timing.seconds, _QUICK_SECONDS))
    if given.rounds is not None:
        timing = replace(timing, rounds=given.rounds)
    if given.seconds is not None and timing.seconds is not None:
        timing = replace(timing, seconds=given.seconds)
    threads = _threads(given)
    device_type = "cuda" if name not in _CPU_ONLY and is_cuda(given) else "cpu"
    before = torch.get_num_threads()
    if name in _PARTS and device_type == "cpu":
        keep_freed_memory()
    try:
        with View() as view:
            sections = importlib.import_module(f"normlab.bench.{name}").run(given, timing, threads, view)
    finally:
        torch.set_num_threads(before)
    record = Record(name, device_type, timing, threads, given.quick, sections)
    for section in sections:
        show(section)
    print(f"written to {record.write(given.out, given.shape)}\n", flush=True)


def _threads(given: Given) -> int:
    """``train.threads``, else all cores."""
    for override in given.overrides:
        key, _, value = override.partition("=")
        if key_of(override) == "train.threads" and value.isdigit():
            return int(value)
        if key == "train.threads" and value != "null":
            raise UserError(f"train.threads={value}: a benchmark takes one number")
    return cores()
