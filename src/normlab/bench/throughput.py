"""Training tokens per second: a run of ours beside the plain loop and ``transformers``' Llama of the same shape."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from normlab.bench.apart import Apart, Ask, here
from normlab.bench.contestants import Other, Ours, Theirs
from normlab.bench.measure import Contestant, Spread, Timing, compete, cuda_synchronise, ratio
from normlab.bench.ours import random_tokens
from normlab.bench.record import Section, between, number, seconds, times
from normlab.bench.shapes import (
    Given,
    check_comparable,
    check_here,
    in_words,
    is_cuda,
    plain_facts,
    same_function,
    shapes,
    with_train,
)
from normlab.bench.view import View
from normlab.config.compose import compose
from normlab.config.schema import Config
from normlab.observe.throughput import mfu, peak_flops
from normlab.training.hardware import Hardware, has_bf16, resolve_hardware

OURS, LOOK = "normlab", "normlab, a look inside"
GIVEN_BACK, GRAPHED = "normlab, memory given back at each step", "normlab, a CUDA graph"
_SMALL = 512  # width up to which launching kernels may be what a GPU's step takes
# Largest difference of two losses at the start that rounding explains.
_FP32, _BF16 = 1e-4, 2e-2


def others(cuda: bool, quick: bool, eager: bool, has_bf16: bool = True) -> list[Other]:
    """On a CPU the plain loop is float32, as nanoGPT's is; that loop in bf16 is shown to say what bf16 alone gives.

    ``eager``: train.compile=off, which holds for everybody. ``has_bf16``: without it in hardware bfloat16 is several
    times slower than float32, and nobody's choice.
    """
    bf16 = [True] if cuda else [False, *([True] if has_bf16 else [])]
    found = [
        Other(library, kind, mode) for library in ("plain", "transformers") for kind in bf16 for mode in (False, True)
    ]
    found = [other for other in found if cuda or other != Other("plain", True, False)]
    if eager:
        return [other for other in found if not other.compiled]
    best = [Other("plain", bf16[0], False), Other("plain", bf16[0], True), Other("transformers", bf16[-1], True)]
    return best if quick else found


def run(given: Given, timing: Timing, threads: int, view: View) -> list[Section]:
    """A section per shape."""
    return [_section(name, compose(words), given, timing, threads, view) for name, words in shapes(given).items()]


@dataclass
class _Race:
    """What competes, and what became of those that did not."""

    config: Config
    hardware: Hardware
    facts: dict[str, Any]  # of ours
    others: dict[str, Other] = field(default_factory=dict)
    contestants: list[Contestant] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def _section(name: str, config: Config, given: Given, timing: Timing, threads: int, view: View) -> Section:
    check_comparable(config)
    view.phase(f"throughput, {name}: compiling", 1 + len(_chosen(config, given)))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        torch.set_num_threads(threads)  # before anything is compiled: code for a CPU is made for so many
        race = _line_up(config, Path(folder), given, threads, view, processes)
        view.phase(f"throughput, {name}", len(race.contestants) * (timing.rounds + 1))
        synchronise = cuda_synchronise(race.hardware.device.type)
        measured = compete(race.contestants, timing, threads, synchronise, view.tick)
    return _tabulate(name, race, measured)


def _line_up(
    config: Config, folder: Path, given: Given, threads: int, view: View, processes: contextlib.ExitStack
) -> _Race:
    hardware = resolve_hardware(config.train)
    device, alike = hardware.device.type, same_function(config)
    tokens = random_tokens(config, folder).path

    def contestant(build: Callable[..., object], *words: object) -> Ask:
        return here(build, *words) if device == "cuda" else processes.enter_context(Apart(threads, build, *words))

    view.tick(OURS)
    ours = contestant(Ours, config, tokens, folder / "ours")
    race = _Race(config, hardware, {}, contestants=[_works(OURS, ours, "train"), _works(LOOK, ours, "look")])
    race.losses[OURS] = ours("loss_at_start")
    if device == "cpu" and not given.quick:  # what allocator.py gives
        without = contestant(Ours, config, tokens, folder / "given_back", False)
        without("warm_up")
        race.contestants.append(_works(GIVEN_BACK, without, "train"))
    if device == "cuda" and config.model.d_model <= _SMALL and not config.train.cuda_graph:
        graphed = contestant(Ours, with_train(config, cuda_graph=True), tokens, folder / "graphed")
        graphed("warm_up")
        if graphed("facts")["cuda_graph"]:
            race.contestants.append(_works(GRAPHED, graphed, "train"))
        else:
            race.failed[GRAPHED] = "no graph of this step could be made"
    asked: dict[str, Ask] = {}
    for other in _chosen(config, given):
        if other.library == "transformers" and importlib.util.find_spec("transformers") is None:
            race.failed[other.name] = "not installed: pip install transformers"
            continue
        asked[other.name] = contestant(Theirs, config, tokens, other, device, alike)
        race.others[other.name] = other
        race.losses[other.name] = asked[other.name]("loss_at_start")
    if alike:
        _check_losses(race)
    ours("warm_up")
    race.facts = ours("facts")
    for name, ask in asked.items():
        view.tick(name)
        problem = ask("problem")
        if problem:
            race.failed[name] = problem
        else:
            race.contestants.append(_works(name, ask, "train"))
    return race


def _works(name: str, ask: Ask, method: str) -> Contestant:
    return Contestant(name, lambda n: ask(method, n))


def _chosen(config: Config, given: Given) -> list[Other]:
    cuda = is_cuda(given)
    return others(cuda, given.quick, config.train.compile == "off", has_bf16(cuda))


def _check_losses(race: _Race) -> None:
    """The same weights on the same batch: whoever computes something else is no contestant."""
    for name, loss in race.losses.items():
        rounded = race.hardware.bf16 or (name in race.others and race.others[name].bf16)
        limit = _BF16 if rounded else _FP32
        close = math.isclose(loss, race.losses[OURS], rel_tol=limit, abs_tol=limit)
        check_here(close, f"a loss of {loss:.5f} ({name}) and of {race.losses[OURS]:.5f} with the same weights")


def observed(measured: Mapping[str, Spread], name: str, probe_every: int) -> Spread:
    """Seconds per step of one of ours with its share of a look inside every ``probe_every`` steps, round by round."""
    rounds = zip(measured[name].values, measured[LOOK].values, strict=True)
    return Spread([step + (look - step) / probe_every for step, look in rounds])


def _tabulate(name: str, race: _Race, measured: Mapping[str, Spread]) -> Section:
    config, hardware, every = race.config, race.hardware, race.config.observe.probe_every
    ours = {name: observed(measured, name, every) for name in (OURS, GIVEN_BACK, GRAPHED) if name in measured}
    step = ours | {name: spread for name, spread in measured.items() if name in race.others}
    tokens = config.train.batch_size * config.train.seq_len
    flops = race.facts["flops_per_token"]
    peak = peak_flops(hardware.name)
    section = Section(
        f"Training throughput, {name}: {in_words(config)}",
        ["", "tokens/s", "quartiles", "step", *(["MFU"] if peak else []), "normlab is"],
        {"shape": name, **plain_facts(config), **race.facts, "probe_every": every, "peak_flops": peak,
         "loss_at_start": race.losses},
    )  # fmt: skip
    for who, spread in step.items():
        rate = spread.map(lambda s: tokens / s)
        faster = ratio(spread, step[OURS])
        share = mfu(rate.median, flops, hardware.name)
        label = f"normlab ({_ours_in_words(race.facts)})" if who == OURS else who
        row: dict[str, Any] = {
            "name": who, "seconds_per_step": spread.plain(), "tokens_per_s": rate.plain(), "mfu": share,
            "normlab_is_faster_by": faster.plain(),
        }  # fmt: skip
        utilised = [f"{100 * share:.1f} %"] if share is not None else []
        beside = "" if who == OURS else times(faster)
        section.add(row, label, number(rate.median), between(rate), seconds(spread.median), *utilised, beside)
    for who, problem in race.failed.items():
        section.add({"name": who, "failed": problem}, who, problem, *[""] * (len(section.header) - 2))
    section.notes = [
        f"normlab as a run does it: every step's loss and gradient norm, a look inside every {every} steps. "
        "Ratios: median and range of the rounds."
        + ("" if hardware.device.type == "cuda" else " Each in a process of its own, one at work at a time.")
    ]
    if peak:
        section.notes.append(
            f"MFU = tokens/s x (6 N + 12 H d_h T L) / peak = tokens/s x {flops:.4g} / {peak:.4g} FLOP/s; dense bf16 "
            "peak; T is the window in layers that have one"
        )
    if not same_function(config):
        section.notes.append("Only normlab has this placement and norm; the others train Pre-Norm with RMSNorm.")
    section.verdict = _verdict(step, race)
    return section


def _ours_in_words(facts: Mapping[str, Any]) -> str:
    graph = ", a CUDA graph" if facts["cuda_graph"] else ""
    return f"{facts['precision']}, {'compiled' if facts['compiled'] else 'eager'}{graph}"


def _verdict(step: Mapping[str, Spread], race: _Race) -> str:
    """Against the best of each library."""
    said = []
    for library in ("plain", "transformers"):
        names = [name for name, other in race.others.items() if other.library == library and name in step]
        if not names:
            said.append(f"{library} did not run")
            continue
        best = min(names, key=lambda name: step[name].median)
        first = names[0]
        said.append(f"{times(ratio(step[best], step[OURS]))} of the best of {library} ({race.others[best].setting})")
        if library == "plain" and first != best:
            said.insert(0, f"{times(ratio(step[first], step[OURS]))} of {first}")
    return "normlab trains at " + ", ".join(said) + ", in tokens/s."
