"""Spike events of the loss and of the gradient norm, from the logged series of every step.

A series is a list with one value per step, the first for step 1; None stands for a non-finite value. A value is judged
by its residual to a short local median, in units of the residuals' median absolute deviation (MAD): neither the trend
of a falling loss nor the previous spike widens the band. docs/detectors.md compares it with the published scores
(``normlab.observe.spike_scores``) on planted spikes and on clean curves.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from normlab.observe.spike_scores import Series, flags_olmo2, flags_olmo_core, olmo_core_scores, score

LOCAL_MEDIAN_STEPS = 16
RESIDUAL_WINDOW = 128
THRESHOLD = 6.0  # robust standard deviations
WARM_RESIDUALS = 48  # so that the first flag is possible at step 16 + 48 + 1
MAD_TO_SD = 1.4826  # for Gaussian noise
SIGMA_FLOOR = 1e-8

MERGE_GAP = 8  # flags closer than this many steps are one event
STAY = 4  # steps at or below baseline + 2 sigma that count as recovered
RECOVERY_SIGMA = 2.0
MAX_RECOVERY = 200  # steps; then the event is closed as not recovered and the detector starts afresh
CO_SPIKE_STEPS = 8


class Reading(NamedTuple):
    """What the detector says of one value, on its own scale (logarithmic with ``log=True``)."""

    flagged: bool
    value: float
    baseline: float
    sigma: float


class LocalMedianDetector:
    """Online, one-sided: a value is flagged if its residual to the median of the last 16 values is more than
    ``threshold`` robust sd above the usual residual (median and MAD of the last 128).

    A flagged value never enters a window: the baseline stands in for it, so a spike cannot hide the next one.
    ``log=True`` works on logarithms, for gradient norms, whose noise is multiplicative.
    """

    def __init__(self, log: bool = False, threshold: float = THRESHOLD) -> None:
        self.log, self.threshold = log, threshold
        self.recent: deque[float] = deque(maxlen=LOCAL_MEDIAN_STEPS)
        self.residuals: deque[float] = deque(maxlen=RESIDUAL_WINDOW)

    def update(self, value: float) -> Reading:
        """Judge one finite value and take it in."""
        if self.log:
            value = math.log(max(value, 1e-12))
        if len(self.recent) < LOCAL_MEDIAN_STEPS:
            self.recent.append(value)
            return Reading(False, value, value, math.inf)
        baseline = median(self.recent)
        residual = value - baseline
        flagged, sigma = False, math.inf
        if len(self.residuals) >= WARM_RESIDUALS:
            centre = median(self.residuals)
            spread = median([abs(r - centre) for r in self.residuals])
            sigma = max(MAD_TO_SD * spread, SIGMA_FLOOR)
            flagged = residual - centre > self.threshold * sigma
        self.recent.append(baseline if flagged else value)
        if not flagged:
            self.residuals.append(residual)
        return Reading(flagged, value, baseline, sigma)


@dataclass
class SpikeEvent:
    """A run of flags less than 8 steps apart. In nats for a loss, in log units for a gradient norm."""

    start: int  # 1-based step of the first flag
    amplitude: float = 0.0  # highest excess over the baseline at the start; inf: the series ended non-finite
    area: float = 0.0  # sum of the positive excess over the steps of the event
    recovery: int | None = None  # steps from start until the series stays low; None: it did not within 200


class EventDetector:
    """The events of a series, value by value. An event closes when the series has recovered, or after 200 steps, when
    the new level becomes the baseline: the detector starts afresh, blind for 64 steps."""

    def __init__(self, log: bool = False) -> None:
        self.events: list[SpikeEvent] = []  # in order; the last may be open
        self.open: SpikeEvent | None = None
        self._log = log
        self._detector = LocalMedianDetector(log)
        self._baseline = self._sigma = 0.0  # of the open event, as they were at its start
        self._last_flag = self._quiet = 0  # step of the latest flag; consecutive steps within the recovery band

    def update(self, step: int, value: float) -> bool:
        """Take in the finite value of a step. Returns whether it is flagged; ``open.start`` says whether it begins an
        event."""
        reading = self._detector.update(value)
        if self.open is None:
            if not reading.flagged:
                return False
            self._begin(step)
            self._baseline, self._sigma, self._quiet = reading.baseline, reading.sigma, 0
        self._go_on(step, reading)
        return reading.flagged

    def end(self, step: int) -> None:
        """The value of this step is not finite: its event, open or new, has no end and no height."""
        (self.open or self._begin(step)).amplitude = math.inf

    def _begin(self, step: int) -> SpikeEvent:
        self.open = SpikeEvent(step)
        self.events.append(self.open)
        return self.open

    def _go_on(self, step: int, reading: Reading) -> None:
        assert self.open is not None
        excess = reading.value - self._baseline
        self.open.amplitude = max(self.open.amplitude, excess)
        self.open.area += max(excess, 0.0)
        self._last_flag = step if reading.flagged else self._last_flag
        self._quiet = self._quiet + 1 if excess <= RECOVERY_SIGMA * self._sigma else 0
        if self._quiet >= STAY:
            if step + 1 - self._last_flag >= MERGE_GAP:  # a flag at the next step is a new event
                self.open.recovery = step - self._quiet + 1 - self.open.start
                self.open = None
        elif step - self.open.start >= MAX_RECOVERY:
            self.open = None
            self._detector = LocalMedianDetector(self._log)


def spike_events(series: Series, log: bool = False) -> list[SpikeEvent]:
    """All events of a series in order. A non-finite value ends the scan with an event of amplitude inf."""
    detector = EventDetector(log)
    for step, value in enumerate(series, start=1):
        if value is None or not math.isfinite(value):
            detector.end(step)
            break
        detector.update(step, value)
    return detector.events


def co_spikes(loss: Sequence[SpikeEvent], grad_norm: Sequence[SpikeEvent]) -> list[int]:
    """For each loss event with a gradient-norm event that starts within 8 steps of it: the lead of the
    nearest one, in steps (t_loss - t_gradient, positive where the gradient came first)."""
    leads = []
    for event in loss:
        near = [event.start - other.start for other in grad_norm]
        near = [lead for lead in near if abs(lead) <= CO_SPIKE_STEPS]
        if near:
            leads.append(min(near, key=abs))
    return leads


def _summary(series: Series, events: Sequence[SpikeEvent]) -> dict[str, Any]:
    amplitudes = [event.amplitude if math.isfinite(event.amplitude) else None for event in events]
    finite = [amplitude for amplitude in amplitudes if amplitude is not None]
    recoveries = [event.recovery for event in events if event.recovery is not None]
    return {
        "events": len(events),
        "events_per_1000": 1000.0 * len(events) / len(series) if series else 0.0,
        "recovered": len(recoveries),
        "recovered_share": len(recoveries) / len(events) if events else None,
        "median_recovery": float(median(recoveries)) if recoveries else None,
        "nonfinite": len(events) - len(finite),  # events that ended in NaN or infinity: 0 or 1
        # JSON has no infinity: None says that the highest amplitude is not a number.
        "max_amplitude": max(finite, default=0.0) if len(finite) == len(events) else None,
        "total_area": sum(event.area for event in events),
        "score_olmo2": score(flags_olmo2(series)),
        "score_olmo_core": score(flags_olmo_core(series)),
        "steps_of_events": [
            {"start": event.start, "recovery": event.recovery, "amplitude": amplitude, "area": event.area}
            for event, amplitude in zip(events, amplitudes, strict=True)
        ],
    }


def summarize_spikes(losses: Series, grad_norms: Series) -> dict[str, Any]:
    """The ``spikes`` entry of summary.json from every step's loss (nats) and unclipped gradient norm.

    Of each series: events, how many per 1000 steps, how many recovered and their share, the median steps to recovery,
    the largest amplitude, the total area (nat-steps; times the tokens of a step the nat-tokens lost), and the
    published scores in percent of the steps. ``score_olmo_core`` beside the two is of loss and norm together.
    """
    loss_events, norm_events = spike_events(losses), spike_events(grad_norms, log=True)
    leads = co_spikes(loss_events, norm_events)
    together = olmo_core_scores(losses, grad_norms)
    return {
        "loss": _summary(losses, loss_events),
        "grad_norm": _summary(grad_norms, norm_events),
        "co_spikes": len(leads),
        "median_lead": float(median(leads)) if leads else None,
        "score_olmo_core": together["total"],
        "score_olmo_core_rolling": together["rolling"],
    }


def startup_overshoot(losses: Series, init_loss: float) -> float | None:
    """Highest training loss of the first 100 steps minus the loss before training, in nats; None without a
    value.

    The event detector is blind before step 65, and a network without norms can jump within the first three
    steps.
    """
    first = [value for value in losses[:100] if value is not None and math.isfinite(value)]
    return max(first) - init_loss if first else None


def clip_rate(clipped: Sequence[int]) -> float:
    """Share of the steps whose gradient was clipped, from their 0/1 flags."""
    return sum(clipped) / len(clipped) if clipped else 0.0
