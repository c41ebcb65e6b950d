"""Detectors against facts that are known of them, and published scores against naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.observe.spike_scores import Series, flags_olmo2, flags_olmo_core, olmo_core_scores, score
from normlab.observe.spikes import (
    LocalMedianDetector,
    SpikeEvent,
    clip_rate,
    co_spikes,
    spike_events,
    startup_overshoot,
    summarize_spikes,
)


def falling_loss(seed: int, steps: int = 1000) -> np.ndarray:
    """2 + 7 (t/20 + 1)^-0.6 with Gaussian noise of 0.05 nats."""
    t = np.arange(steps)
    return 2 + 7 * (t / 20 + 1) ** -0.6 + np.random.default_rng(seed).normal(0, 0.05, steps)


def add_spike(loss: np.ndarray, index: int, height: float) -> None:
    loss[index : index + 25] += height * np.exp(-np.arange(25) / 6)


def spike_score_olmo2(series: Series) -> float:
    return score(flags_olmo2(series))


def spike_score_olmo_core(series: Series) -> float:
    return score(flags_olmo_core(series))


def olmo2_by_loop(values: list[float]) -> float:
    hits = 0
    for i in range(999, len(values)):
        window = values[i - 999 : i + 1]
        mean = sum(window) / 1000
        sd = math.sqrt(sum((v - mean) ** 2 for v in window) / 1000)
        hits += sd >= 1e-10 and abs(values[i] - mean) >= 7 * sd
    return 100 * hits / len(values)


def olmo_core_by_loop(values: list[float]) -> float:
    hits = 0
    for i in range(128, len(values)):
        window = values[i - 128 : i]
        mean = sum(window) / 128
        sd = math.sqrt(sum((v - mean) ** 2 for v in window) / 128)
        hits += sd >= 1e-10 and values[i] > mean + 6 * sd
    return 100 * hits / len(values)


def test_clean_runs_have_no_events() -> None:
    assert [spike_events(falling_loss(seed).tolist()) for seed in range(20)] == [[]] * 20


def test_a_spike_does_not_hide_the_next_one() -> None:
    loss = falling_loss(1)
    add_spike(loss, 300, 1.0)
    add_spike(loss, 340, 1.0)
    first, second = spike_events(loss.tolist())
    assert (first.start, second.start) == (301, 341)  # steps count from 1
    for event in (first, second):
        assert event.amplitude == pytest.approx(1.0, abs=0.2)
        assert event.recovery is not None and 5 <= event.recovery <= 25
        assert 3 < event.area < 10  # the sum of exp(-s/6) is 6.5


def test_a_small_spike_after_a_large_one_is_seen_only_by_the_local_median() -> None:
    loss = falling_loss(2, 2000)
    add_spike(loss, 1400, 3.0)
    add_spike(loss, 1440, 1.0)
    assert [event.start for event in spike_events(loss.tolist())] == [1401, 1441]
    masked = loss.copy()
    masked[1440:1465] -= np.exp(-np.arange(25) / 6)  # the same without the second spike
    for flags in (flags_olmo2, flags_olmo_core):
        assert flags(loss.tolist()).tolist() == flags(masked.tolist()).tolist() and flags(loss.tolist()).any()


def test_a_plateau_is_one_event_as_long_as_it_lasts() -> None:
    loss = falling_loss(3)
    loss[500:560] += 0.8
    (event,) = spike_events(loss.tolist())
    assert event.start == 501
    assert event.recovery == 60
    assert event.area == pytest.approx(48, rel=0.1)


def test_a_flagged_value_moves_no_baseline() -> None:
    detector = LocalMedianDetector()
    quiet = [2.0 + 0.01 * (i % 5) for i in range(100)]
    before = [detector.update(value) for value in quiet][-1]
    high = [detector.update(3.0) for _ in range(100)]
    assert all(reading.flagged for reading in high)
    assert all(abs(reading.baseline - before.baseline) <= 0.02 for reading in high)
    assert {reading.sigma for reading in high[1:]} == {high[0].sigma}


def test_a_permanent_shift_is_one_event_that_does_not_recover() -> None:
    loss = falling_loss(4)
    loss[500:] += 1.5
    (event,) = spike_events(loss.tolist())
    assert (event.start, event.recovery) == (501, None)
    assert event.amplitude == pytest.approx(1.5, abs=0.2)


def test_a_spike_at_the_new_level_is_seen_after_the_baseline_moved() -> None:
    loss = falling_loss(4)
    loss[300:] += 1.5
    add_spike(loss, 800, 1.0)
    assert [event.start for event in spike_events(loss.tolist())] == [301, 801]


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_a_non_finite_value_is_an_infinite_event_and_the_last(bad: float | None) -> None:
    series: list[float | None] = [*falling_loss(5).tolist()[:400], bad, *[9.0] * 100]
    assert spike_events(series) == [SpikeEvent(401, math.inf, 0.0, None)]
    series[395] = 8.0  # an event that is open when the series ends
    (event,) = spike_events(series)
    assert (event.start, event.amplitude, event.recovery) == (396, math.inf, None)


def test_gradient_norms_are_judged_by_their_logarithm() -> None:
    noise = np.random.default_rng(6).normal(0, 0.2, 1000)
    norms = 0.3 * np.exp(noise)
    assert spike_events(norms.tolist(), log=True) == []
    norms[600:604] *= 20
    (event,) = spike_events(norms.tolist(), log=True)
    assert (event.start, event.recovery) == (601, 4)
    assert event.amplitude == pytest.approx(math.log(20), abs=0.6)


def test_flags_closer_than_eight_steps_are_one_event() -> None:
    quiet = [2.0 + 0.01 * (i % 5) for i in range(200)]
    for distance, count in [(7, 1), (8, 2), (12, 2)]:
        series = list(quiet)
        series[100] = series[100 + distance] = 5.0
        assert len(spike_events(series)) == count, distance


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shift=st.integers(-1000, 1000),
    spikes=st.lists(st.integers(0, 399), max_size=4),
)
def test_events_do_not_depend_on_the_level(seed: int, shift: int, spikes: list[int]) -> None:
    # Multiples of 1/64, so that adding the shift is exact.
    units = np.random.default_rng(seed).integers(100, 120, 400)
    units[spikes] += 500
    series = units / 64
    assert spike_events((series + shift).tolist()) == spike_events(series.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_published_scores_equal_naive_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = falling_loss(seed, 2300)
    for index in rng.integers(0, 2300, 12):
        values[index] += rng.choice([-2.0, 0.4, 1.0, 1e6])
    values[1500:1700] = 3.0  # no spread at all
    series = values.tolist()
    assert spike_score_olmo2(series) == pytest.approx(olmo2_by_loop(series), abs=1e-12)
    assert spike_score_olmo_core(series) == pytest.approx(olmo_core_by_loop(series), abs=1e-12)
    assert spike_score_olmo_core(series) > 0


def test_olmo2_counts_both_directions_and_not_before_step_1000() -> None:
    noise = np.random.default_rng(0).normal(2, 0.05, 1500)
    for index, change in [(500, 5.0), (1200, -5.0)]:
        noise[index] += change
    assert spike_score_olmo2(noise.tolist()[:999]) == 0.0
    assert spike_score_olmo2(noise.tolist()) == pytest.approx(100 / 1500)
    assert spike_score_olmo_core(noise.tolist()) == pytest.approx(100 / 1500)  # the upward one


def test_scores_pass_over_non_finite_values() -> None:
    series: list[float | None] = falling_loss(0, 300).tolist()
    series[200] = 9.0
    assert flags_olmo_core(series)[200]
    for flags in (flags_olmo_core, flags_olmo2):
        assert flags([*series, None, math.inf]).tolist() == [*flags(series).tolist(), False, False]
    series[150] = None  # the places of the flags stay those of the steps
    assert flags_olmo_core(series)[200]


def test_olmo_core_counts_a_step_once() -> None:
    loss = np.random.default_rng(1).normal(2, 0.05, 12_000)
    norms = np.random.default_rng(2).normal(2, 0.05, 12_000)
    loss[[500, 5000, 9000]] += 5.0
    norms[[9000, 11_000]] += 5.0
    scores = olmo_core_scores(loss.tolist(), norms.tolist())
    assert scores == {"total": pytest.approx(100 * 4 / 12_000), "rolling": pytest.approx(100 * 3 / 10_000)}
    short = olmo_core_scores(loss.tolist()[:9999], norms.tolist()[:9999])
    assert short == {"total": pytest.approx(100 * 3 / 9999), "rolling": None}  # OLMo-core: only when it is full
    assert olmo_core_scores([], []) == {"total": 0.0, "rolling": None}


def test_lead_of_the_nearest_gradient_event() -> None:
    def at(*starts: int) -> list[SpikeEvent]:
        return [SpikeEvent(start) for start in starts]

    assert co_spikes(at(100, 200, 300), at(97, 103, 208, 309)) == [3, -8]
    assert co_spikes(at(100), at(99, 104)) == [1]
    assert co_spikes([], at(1)) == []


def test_summary_has_every_key_and_is_json() -> None:
    loss, norms = falling_loss(7), 0.3 * np.exp(np.random.default_rng(7).normal(0, 0.2, 1000))
    add_spike(loss, 300, 1.0)
    norms[296:300] *= 20
    summary = summarize_spikes(loss.tolist(), norms.tolist())
    assert summary["co_spikes"] == 1 and summary["median_lead"] == 4.0
    for name, start in [("loss", 301), ("grad_norm", 297)]:
        part = summary[name]
        assert (part["events"], part["events_per_1000"], part["recovered"]) == (1, 1.0, 1)
        assert (part["nonfinite"], part["steps_of_events"][0]["start"]) == (0, start)
        assert (part["recovered_share"], part["median_recovery"]) == (1.0, part["steps_of_events"][0]["recovery"])
        assert part["max_amplitude"] == part["steps_of_events"][0]["amplitude"] > 0.8
        assert part["total_area"] == part["steps_of_events"][0]["area"] > 1
        assert {"score_olmo2", "score_olmo_core"} <= part.keys()
    ended = summarize_spikes([*loss.tolist(), None], [*norms.tolist(), None])["loss"]
    assert (ended["events"], ended["recovered"], ended["recovered_share"], ended["nonfinite"]) == (2, 1, 0.5, 1)
    assert ended["max_amplitude"] is None
    assert ended["steps_of_events"][1] == {"start": 1001, "recovery": None, "amplitude": None, "area": 0.0}
    empty = summarize_spikes([], [])
    assert empty["loss"]["events_per_1000"] == 0.0 and empty["median_lead"] is None
    assert empty["loss"]["recovered_share"] is None and empty["loss"]["median_recovery"] is None
    assert (summary["score_olmo_core"], summary["score_olmo_core_rolling"]) == (
        olmo_core_scores(loss.tolist(), norms.tolist())["total"], None,
    )  # fmt: skip


def test_startup_overshoot_looks_at_one_hundred_steps() -> None:
    assert startup_overshoot([4.0, 31.5, *[3.0] * 98, 99.0], 4.25) == 27.25
    assert startup_overshoot([4.0, 3.0], 4.25) == -0.25
    assert startup_overshoot([None], 4.25) is None


def test_clip_rate() -> None:
    assert clip_rate([1, 0, 0, 1]) == 0.5
    assert clip_rate([]) == 0.0
