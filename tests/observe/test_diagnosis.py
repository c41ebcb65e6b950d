"""Why a run failed: one analytic case for every reason, and for every way to end."""

from __future__ import annotations

from typing import Any

import pytest

from normlab.observe.diagnosis import diagnose
from normlab.observe.findings import Evidence, dead_gradients, gradient_growth

LAYERS = 6
STEPS = range(1, 201)


def summary(outcome: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "outcome": outcome, "first_bad_step": 40, "init_loss": 5.55, "clip_rate": 0.1, "startup_overshoot": 0.0,
        "final": {"val_loss": 3.36}, "data": {"unigram_ce": 3.35}, **changes,
    }  # fmt: skip


def metrics(**columns: dict[int, float | None]) -> list[dict[str, Any]]:
    """Every step's row; ``loss={40: None}`` changes one."""
    plain = {"loss": 4.0, "grad_norm": 1.0}
    return [{"step": step, **plain, **{k: v[step] for k, v in columns.items() if step in v}} for step in STEPS]


def looks(**profiles: dict[int, list[float | None]]) -> list[dict[str, Any]]:
    """``grad_norm={1: [...], 100: [...]}`` as rows of probes.jsonl; step 0 looks at the activations alone."""
    steps = sorted({step for by_step in profiles.values() for step in by_step})
    return [{"step": s, **{name: by_step[s] for name, by_step in profiles.items() if s in by_step}} for s in steps]


FLAT = [1.0] * LAYERS


@pytest.mark.parametrize("outcome", ["ok", None])
def test_a_healthy_run_has_no_diagnosis(outcome: str | None) -> None:
    assert diagnose(summary(outcome), metrics(), looks(grad_norm={1: FLAT, 200: FLAT})) is None


@pytest.mark.parametrize("dead", [1, 3, 5])
def test_gradients_that_died_in_the_first_layers(dead: int) -> None:
    profile = [2e-5] * dead + [0.08] * (LAYERS - dead)
    found = diagnose(
        summary("stagnated"), metrics(), looks(grad_norm={1: FLAT, 10: profile, 100: profile, 200: profile})
    )
    assert found is not None
    assert (found["quantity"], found["step"], found["layer"]) == ("grad_norm", 10, dead)
    where = "layer 1 of 6" if dead == 1 else f"layers 1 to {dead} of 6"
    most = "half of them " if dead > 1 else ""
    assert f"the gradient died in {where} (below 0.001 of the largest), {most}from step 10 on" in found["text"]
    assert found["text"].startswith(
        "The loss stood still from step 40, at 3.36 nats, and token frequencies alone give 3.35:"
    )


def test_every_steps_share_of_dead_layers_dates_it_better_than_the_looks() -> None:
    profile = [1e-6] * 5 + [0.1]
    shares = {step: 3 / 6 if step >= 23 or step == 7 else 1 / 6 for step in STEPS}  # a short one before
    found = diagnose(summary("stagnated"), metrics(dead_gradients=shares), looks(grad_norm={1: FLAT, 100: profile}))
    assert found is not None and (found["step"], found["layer"]) == (23, 5)


def test_dead_gradients_elsewhere() -> None:
    def found(profile: list[float | None]) -> Any:
        return dead_gradients(Evidence(summary("stagnated"), [], looks(grad_norm={200: profile})))

    assert "2 of 6 layers, the deepest of them layer 4" in found([1.0, 1e-9, 1.0, 1e-9, 1.0, 1.0]).text
    assert "every layer" in found([0.0] * LAYERS).text and found([0.0] * LAYERS).layer == LAYERS
    assert found(FLAT) is None and found([1.0, 0.002, 1.0, 1.0, 1.0, 1.0]) is None
    assert found([None] * LAYERS) is None


@pytest.mark.parametrize("layer", [1, 4, 6])
def test_an_activation_that_blew_up(layer: int) -> None:
    start = [0.2 * (k + 1) for k in range(LAYERS)]  # a stream that grows with depth from the beginning
    late = [x if k + 1 < layer else 900.0 for k, x in enumerate(start)]  # all behind the layer inherit it
    early = [x if k + 1 < layer else 30 * x for k, x in enumerate(start)]
    probes = looks(**{"ffn.rms_sum": {0: start, 10: early, 100: late, 130: late}}, grad_norm={1: FLAT, 130: FLAT})
    found = diagnose(summary("exploded"), metrics(), probes)
    assert found is not None
    assert (found["quantity"], found["step"], found["layer"]) == ("ffn.rms_sum", 100, layer)
    growth = f"{900 / start[layer - 1]:.3g}"
    assert f"blew up in layer {layer} of 6: its RMS grew {growth}-fold by step 100" in found["text"]
    assert found["text"].startswith("The loss stayed above its start (5.55 nats) from step 40:")


def test_growth_as_in_healthy_training_is_no_reason() -> None:
    found = diagnose(summary("stagnated"), metrics(), looks(**{"ffn.rms_out": {0: FLAT, 200: [15.0] * LAYERS}}))
    assert found is not None and "no look inside the layers shows a reason" in found["text"]
    assert (found["quantity"], found["step"], found["layer"]) == ("loss", 40, None)


def test_a_stream_that_is_not_finite_is_named_by_its_first_place() -> None:
    broken: list[float | None] = [1.0, 2.0, None, None, None, None]
    probes = looks(**{"attn.rms_out": {0: FLAT, 39: broken}, "ffn.rms_out": {0: FLAT, 39: [1.0, *broken[:-1]]}})
    found = diagnose(summary("nan"), metrics(loss={40: None}), probes)
    assert found is not None
    assert (found["quantity"], found["step"], found["layer"]) == ("attn.rms_out", 39, 3)
    where = "the residual stream was not finite from layer 3 of 6 on at step 39"
    assert found["text"] == f"The training loss was not finite at step 40: {where}."


def test_a_stream_that_grew_until_it_was_not_finite() -> None:
    broken: list[float | None] = [1.0, 2.0, 300.0, 1e9, None, None]
    found = diagnose(summary("nan"), metrics(loss={40: None}), looks(**{"ffn.rms_out": {0: FLAT, 39: broken}}))
    assert found is not None and found["layer"] == 5
    assert "had grown 100-fold from layer 3 on and was not finite from layer 5 of 6 on at step 39" in found["text"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"loss": {40: None}}, "training loss"), ({"grad_norm": {40: None}}, "gradient norm"), ({}, "validation loss")],
)
def test_what_was_not_finite(columns: dict[str, Any], said: str) -> None:
    found = diagnose(summary("nan"), metrics(**columns), [])
    assert found is not None and found["text"].startswith(f"The {said} was not finite at step 40: no look")
    assert found["step"] == 40


@pytest.mark.parametrize(
    ("nonfinite", "said", "layer"),
    [
        ({"what": "output", "module": "blocks.3.attn.branch.q", "layer": 4, "kind": "inf"},
         "infinite first in the output of blocks.3.attn.branch.q (layer 4)", 4),
        ({"what": "parameter", "module": "embed.weight", "layer": None, "kind": "nan"},
         "nan first in embed.weight", None),
        ({"what": "gradient", "module": "blocks.0.ffn.branch.up.weight", "layer": 1, "kind": "nan"},
         "nan first in the gradient of blocks.0.ffn.branch.up.weight (layer 1)", 1),
    ],
)  # fmt: skip
def test_the_place_where_a_pass_over_the_failing_batch_broke(nonfinite: dict[str, Any], said: str, layer: int) -> None:
    found = diagnose(summary("nan", nonfinite=nonfinite), metrics(loss={40: None}), [])
    assert found is not None and found["text"].startswith(f"The training loss was not finite at step 40, {said}: ")
    assert (found["quantity"], found["step"], found["layer"]) == ("loss", 40, layer)


def test_a_gradient_that_overflowed_on_its_way_back() -> None:
    tail: dict[int, list[float | None]] = {38: [2.0] * 6, 39: [1e20] * 6, 40: [None, None, None, None, 1e38, 1e30]}
    found = diagnose(summary("nan"), metrics(grad_norm={40: None}), looks(grad_norm={1: FLAT, **tail}))
    assert found is not None and (found["quantity"], found["step"], found["layer"]) == ("grad_norm", 40, 4)
    assert "not finite from layer 4 of 6 backwards at step 40" in found["text"]


def test_a_gradient_that_grew_until_nothing_was_finite() -> None:
    tail: dict[int, list[float | None]] = {38: [2.0, 2.0, 9.0, 2.0, 2.0, 2.0], 39: [4.0, 5.0, 300.0, 3.0, 3.0, 3.0]}
    evidence = Evidence(summary("nan"), [], looks(grad_norm={1: FLAT, **tail, 40: [None] * 6}))
    found = gradient_growth(evidence)
    assert found is not None and (found.step, found.layer) == (39, 3)
    assert found.text == "the gradient of layer 3 of 6 grew 300-fold from step 1 to step 39"
    calm = Evidence(summary("nan"), [], looks(grad_norm={1: FLAT, 39: [3.0] * 6}))
    assert gradient_growth(calm) is None


def test_attention_logits_and_entropy() -> None:
    logits = {0: FLAT, 100: [50.0, 2e4, 3e4, 10.0, 10.0, 10.0]}
    found = diagnose(summary("exploded"), metrics(), looks(**{"attn.max_logit": logits}))
    assert found is not None and (found["quantity"], found["step"], found["layer"]) == ("attn.max_logit", 100, 3)
    ratios = {0: FLAT, 100: [0.5, 0.5, 0.5, 0.001, 0.5, 0.5]}
    found = diagnose(summary("exploded"), metrics(), looks(**{"attn.entropy_ratio": ratios}))
    assert found is not None and (found["quantity"], found["layer"]) == ("attn.entropy_ratio", 4)


def test_symptoms_are_said_and_are_no_reason() -> None:
    found = diagnose(summary("stagnated", clip_rate=0.97, startup_overshoot=25.3), metrics(), [])
    assert found is not None and found["text"].endswith(
        "; the loss rose 25.3 nats above its start within the first 100 steps; "
        "the gradient was clipped in 97 % of the steps."
    )


def test_the_order_follows_the_outcome() -> None:
    """A blow-up leaves all other gradients small beside the largest: that is not where they died."""
    both = looks(
        **{"ffn.rms_sum": {0: FLAT, 100: [1.0, 1.0, 1.0, 1.0, 1.0, 5e4]}},
        grad_norm={1: FLAT, 100: [1e-6] * 5 + [1.0]},
    )
    exploded, stagnated = (diagnose(summary(outcome), metrics(), both) for outcome in ("exploded", "stagnated"))
    assert exploded is not None and exploded["quantity"] == "ffn.rms_sum"
    assert stagnated is not None and stagnated["quantity"] == "grad_norm"


def test_what_the_report_calls_degraded_is_looked_into_too() -> None:
    found = diagnose(summary("degraded"), metrics(), looks(grad_norm={200: [1e-7] * 2 + [1.0] * 4}))
    assert found is not None and found["layer"] == 2
    assert found["text"].startswith(
        "The final validation loss, 3.36 nats, is far above the reference's: the gradient died"
    )
