"""``normlab bench``."""

from __future__ import annotations

from collections.abc import Sequence

from normlab.cli.arguments import Arguments
from normlab.errors import UserError

HELP = """\
normlab bench NAME|all [KEY=VALUE ...]     how fast, how large, how soon: contestants in turn, medians and ratios

  normlab bench throughput                     beside a plain PyTorch loop and transformers' Llama of the same shape
  normlab bench throughput --shape nanogpt_cpu     (or small, paper_151m, paper_550m, paper_1.2b; else this device's)
  normlab bench throughput model=mini train.seq_len=256     a shape of your own
  normlab bench placements placement=hybrid,post norm=layernorm     step time beside Pre-Norm with RMSNorm
  normlab bench data 'data.paths=[texts/*.txt]' data=files
  normlab bench all --quick                    each for about a minute: a look, not a result

  throughput   training tokens/s            data      tokenize and pack beside datasets.map
  placements   step of every placement,     startup   --help; first step cold, warm, and of a further cell
               of every norm type           memory    peak at a vocabulary of 100k
  norms        each norm type by itself     sweep     cells per hour: a thread per cell, or all
  attention    kernel against written out   observing what watching a run costs

  --quick           fewer rounds, fewer contestants, small shapes
  --rounds N        turns of each contestant         --seconds S    of each turn
  --out DIR         results/bench: NAME-DEVICE.json  --config-dir DIR  your own groups besides ./configs

CPU threads are all cores, or train.threads=N. Measure on a machine that does nothing else.
"""


def run(words: Sequence[str]) -> int:
    arguments = Arguments(HELP)
    arguments.add_argument("name", metavar="NAME")
    arguments.add_argument("overrides", nargs="*")
    arguments.add_argument("--shape")
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--rounds")
    arguments.add_argument("--seconds")
    arguments.add_argument("--out", default="results/bench")
    arguments.add_argument("--config-dir")
    given = arguments.read(words)
    rounds = None if given.rounds is None else int(_positive("--rounds", given.rounds, int))
    seconds = None if given.seconds is None else _positive("--seconds", given.seconds, float)

    from pathlib import Path

    from normlab.bench.command import run_benchmarks
    from normlab.bench.shapes import Given
    from normlab.config.compose import user_config_dir

    with user_config_dir(given.config_dir):
        asked = Given(tuple(given.overrides), given.shape, rounds, seconds, given.quick, Path(given.out))
        run_benchmarks(given.name, asked)
    return 0


def _positive(option: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = kind(0)
    if not 0 < value < float("inf"):
        raise UserError(f"{option} {text}: a number above 0, for example {option} 3")
    return value
