"""Fill the tables of docs/detectors.md: what spike detectors find of planted spikes, and flag of curves without any.

python scripts/calibrate_detectors.py                        # a minute; seeded, the same bytes every time
python scripts/calibrate_detectors.py --noise RUN_DIR ...    # first take the real noise anew from these runs
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normlab.observe.spike_scores import flags_olmo2, flags_olmo_core
from normlab.observe.spikes import LOCAL_MEDIAN_STEPS, MAD_TO_SD, LocalMedianDetector

PAGE = Path(__file__).parent.parent / "docs" / "detectors.md"
NOISE_FILE = PAGE.with_name("detectors-noise.json")
RUNS = 60  # per column; also said on the page
SETTLED = 66  # steps before a recorded run's noise is taken: warm-up, and the fast fall of the beginning

Curve = NDArray[np.float64]
Flags = NDArray[np.bool_]
Detector = Callable[[Curve], Flags]
Noise = Callable[[np.random.Generator, int], Curve]
Column = Callable[[np.random.Generator, Detector], float]


def plain_mad(curve: Curve, window: int = 128, k: float = 6.0) -> Flags:
    """(x - median) / MAD of the previous 128 values above 6: robust, but blind to the trend."""
    flags = np.zeros(len(curve), dtype=bool)
    before = np.lib.stride_tricks.sliding_window_view(curve[:-1], window)
    centre = np.median(before, axis=1)
    mad = MAD_TO_SD * np.median(np.abs(before - centre[:, None]), axis=1)
    flags[window:] = curve[window:] - centre > k * mad
    return flags


def local_median(threshold: float, log: bool = False) -> Detector:
    def detect(curve: Curve) -> Flags:
        detector = LocalMedianDetector(log, threshold)
        return np.array([detector.update(value).flagged for value in curve.tolist()])

    return detect


def published(flags: Callable[[Sequence[float | None]], Flags]) -> Detector:
    return lambda curve: flags(curve.tolist())


OLMO2, OLMO_CORE = published(flags_olmo2), published(flags_olmo_core)
ON_LOSS: dict[str, Detector] = {
    "OLMo 2: 7 sd of 1000": OLMO2,
    "OLMo-core: 6 sd of 128": OLMO_CORE,
    "plain MAD, k 6 of 128": plain_mad,
    "**local median, k 6** (ours)": local_median(6.0),
    "local median, k 7": local_median(7.0),
}
ON_NORM: dict[str, Detector] = {
    "OLMo 2: 7 sd of 1000": OLMO2,
    "OLMo-core: 6 sd of 128": OLMO_CORE,
    "local median of the norm, k 6": local_median(6.0),
    "**local median of its logarithm, k 6** (ours)": local_median(6.0, log=True),
    "local median of its logarithm, k 7": local_median(7.0, log=True),
}


def gaussian(rng: np.random.Generator, steps: int) -> Curve:
    return rng.standard_normal(steps)


def heavy(rng: np.random.Generator, steps: int) -> Curve:
    return math.sqrt(0.5) * rng.standard_t(4, steps)  # of variance 1


def recorded(name: str) -> Noise:
    """Noise of real runs, in units of its own robust sd: whole stretches, in random order and from a random place."""
    stretches = [np.array(stretch) for stretch in json.loads(NOISE_FILE.read_text())[name]]

    def draw(rng: np.random.Generator, steps: int) -> Curve:
        order = [np.roll(stretches[i], rng.integers(len(stretches[i]))) for i in rng.permutation(len(stretches))]
        return np.resize(np.concatenate(order), steps)

    return draw


def falling_loss(rng: np.random.Generator, steps: int, noise: Noise) -> Curve:
    return 2 + 7 * (np.arange(steps) / 20 + 1) ** -0.6 + 0.05 * noise(rng, steps)


def gradient_norm(rng: np.random.Generator, steps: int, noise: Noise) -> Curve:
    return 0.3 * (1 + 4 * np.exp(-np.arange(steps) / 100)) * np.exp(0.2 * noise(rng, steps))


def _hit(flags: Flags, at: int) -> bool:
    return bool(flags[at : at + 3].any())


def spike(height: float, first: int, last: int, after: float = 0.0) -> Column:
    """Of a spike that decays over 25 steps; with ``after``, 40 steps behind another one of that height."""

    def column(rng: np.random.Generator, detect: Detector) -> float:
        hits = 0
        for _ in range(RUNS):
            at = int(rng.integers(first, last))
            curve = falling_loss(rng, at + 3, gaussian)
            for place, size in ((at - 40, after), (at, height)):
                stretch = curve[place : place + 25]
                stretch += size * np.exp(-np.arange(len(stretch)) / 6)
            hits += _hit(detect(curve), at)
        return hits / RUNS

    return column


def burst(factor: float, first: int, last: int, after: float = 1.0) -> Column:
    """Of four steps with a gradient norm so many times larger; with ``after``, 40 steps behind others."""

    def column(rng: np.random.Generator, detect: Detector) -> float:
        hits = 0
        for _ in range(RUNS):
            at = int(rng.integers(first, last))
            curve = gradient_norm(rng, at + 3, gaussian)
            curve[at - 40 : at - 36] *= after
            curve[at:] *= factor
            hits += _hit(detect(curve), at)
        return hits / RUNS

    return column


def clean(curve_of: Callable[[np.random.Generator, int, Noise], Curve], noise: Noise) -> Column:
    def column(rng: np.random.Generator, detect: Detector) -> float:
        return float(np.mean([detect(curve_of(rng, 1000, noise)).sum() for _ in range(RUNS)]))

    return column


def loss_columns() -> dict[str, Column]:
    late, early = (1200, 2500), (150, 400)
    return {
        "+1 nat, step 1200-2500": spike(1.0, *late),
        "+0.3, same": spike(0.3, *late),
        "+1 nat, step 150-400": spike(1.0, *early),
        "+0.3, early": spike(0.3, *early),
        "+1 nat, 40 steps after +1": spike(1.0, *late, after=1.0),
        "+1 nat, 40 steps after +3": spike(1.0, *late, after=3.0),
        "false, Gaussian": clean(falling_loss, gaussian),
        "false, t4": clean(falling_loss, heavy),
        "false, real noise": clean(falling_loss, recorded("loss")),
    }


def norm_columns() -> dict[str, Column]:
    late, early = (1200, 2500), (150, 400)
    return {
        "x 20, step 1200-2500": burst(20.0, *late),
        "x 4, same": burst(4.0, *late),
        "x 20, step 150-400": burst(20.0, *early),
        "x 4, early": burst(4.0, *early),
        "x 4, 40 steps after x 20": burst(4.0, *late, after=20.0),
        "false, Gaussian": clean(gradient_norm, gaussian),
        "false, t4": clean(gradient_norm, heavy),
        "false, real noise": clean(gradient_norm, recorded("log_grad_norm")),
    }


# What an independent simulation of the same design found, row by row as in ON_LOSS.
THEIRS = {
    "+1 nat, step 1200-2500": (0.68, 1.0, 1.0, 1.0, 1.0),
    "+0.3, same": (0, 0.52, 0.58, 0.48, 0.20),
    "+1 nat, step 150-400": (0, 0.38, 0.27, 1.0, 1.0),
    "+0.3, early": (0, 0, 0, 0.30, 0.15),
    "+1 nat, 40 steps after +1": (0.72, 0.32, 1.0, 1.0, 1.0),
    "+1 nat, 40 steps after +3": (0, 0, 1.0, 1.0, 1.0),
    "false, Gaussian": (0, 0, 0, 0, 0),
    "false, t4": (0, 0.15, 0.23, 1.15, 0.67),
}


def measure(columns: dict[str, Column], detectors: dict[str, Detector]) -> dict[str, dict[str, float]]:
    """Every detector sees the same curves: a column has a generator of its own."""
    return {
        name: {who: column(np.random.default_rng([2503, 4598, number]), detect) for who, detect in detectors.items()}
        for number, (name, column) in enumerate(columns.items())
    }


def table(found: dict[str, dict[str, float]], detectors: dict[str, Detector], beside: bool) -> str:
    lines = [["detector", *found], ["---", *["---:"] * len(found)]]
    for row, who in enumerate(detectors):
        cells = []
        for name, of in found.items():
            theirs = f" ({THEIRS[name][row]:.2f})" if beside and name in THEIRS else ""
            cells.append(f"{of[who]:.2f}{theirs}")
        lines.append([who, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(page: str) -> str:
    """The page with its tables, which stand between comments, made anew."""
    tables = {
        "loss": table(measure(loss_columns(), ON_LOSS), ON_LOSS, beside=True),
        "norm": table(measure(norm_columns(), ON_NORM), ON_NORM, beside=False),
    }
    for name, made in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        page = re.sub(f"{begin}.*?{end}", lambda _, new=f"{begin}\n{made}\n{end}": new, page, flags=re.DOTALL)
    return page


def take_noise(folders: Sequence[Path]) -> None:
    """Residuals of real runs to the median of the 16 values before, less their median, over their robust sd."""
    found = {}
    for name, key in (("loss", "loss"), ("log_grad_norm", "grad_norm")):
        stretches = []
        for folder in folders:
            rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            curve = np.array([row[key] for row in rows if "loss" in row])
            curve = np.log(curve) if name.startswith("log") else curve
            before = np.lib.stride_tricks.sliding_window_view(curve[:-1], LOCAL_MEDIAN_STEPS)
            residual = (curve[LOCAL_MEDIAN_STEPS:] - np.median(before, axis=1))[SETTLED - LOCAL_MEDIAN_STEPS :]
            residual -= np.median(residual)
            residual /= MAD_TO_SD * np.median(np.abs(residual))
            stretches.append([round(value, 2) for value in residual.tolist()])
        found[name] = stretches
    NOISE_FILE.write_text(json.dumps(found) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", nargs="+", type=Path, metavar="RUN_DIR")
    arguments = parser.parse_args()
    if arguments.noise:
        take_noise(arguments.noise)
    PAGE.write_text(fill(PAGE.read_text()))


if __name__ == "__main__":
    main()
