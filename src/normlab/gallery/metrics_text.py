"""Words for the numbers that have no function of their own, and units."""

from __future__ import annotations

from normlab.observe.depth import DEAD
from normlab.observe.diagnosis import OFTEN_CLIPPED, OVERSHOOT
from normlab.observe.findings import BLOW_UP, GRADIENT_GROWTH, LARGEST_LOGIT, LEAST_ENTROPY

METRICS = {
    "step": "The optimizer step, from 1; 0 before the first.",
    "loss": "Cross-entropy of the step's batch before its update, without what else is minimised.",
    "balance_loss, router_z_loss": "Of a sparse network: the routers' losses, unweighted, mean over layers.",
    "grad_norm": "sqrt(sum g^2) over all parameters, before clipping.",
    "clipped": "1 where `grad_norm` is above `optim.grad_clip`, else 0.",
    "lr": "The learning rate of the step.",
    "tokens": "Tokens trained on, with this step's.",
    "val_loss": "Mean cross-entropy of `eval.windows` windows of validation text, the same for every run on it.",
    "val_bpb": "val_loss / (ln 2 * bytes per token): comparable between tokenizers.",
}
OF_GRADIENTS = "x_l is the step's gradient norm of block l, before clipping."
PROBES_OF_STEPS = {
    "grad_norm": "sqrt(sum g^2) of each block, before clipping: a value per layer.",
    "grad_norm_group": "sqrt(sum g^2) of each kind of matrix, of the embedding, the head, all norms: a mapping.",
}
_SPIKES = {
    "events": "Spike events: flags less than 8 steps apart are one. A value is flagged if its residual to the median "
    "of the 16 before is above 6 robust sd (MAD) of the last 128 residuals; of a gradient norm, its logarithm. Ours; "
    "see docs/detectors.md.",
    "events_per_1000": "Events per 1000 steps.",
    "recovered": "Events after which 4 steps in a row came back within 2 sd of the level before, within 200 steps.",
    "recovered_share": "`recovered` over `events`; null without an event.",
    "median_recovery": "Median steps from an event's start to its recovery.",
    "nonfinite": "1 where the series ended in a value that is not finite.",
    "max_amplitude": "The largest excess over the level before an event; null where it is infinite. Of a gradient "
    "norm, of its natural logarithm.",
    "total_area": "Sum of the excess over all steps of all events; of a loss, times the tokens of a step, what they "
    "cost; of a gradient norm, of its natural logarithm.",
    "score_olmo2": "Values at least 7 sd from the mean of the last 1000: OLMo 2 (arXiv 2501.00656). 0 till step 1000.",
    "score_olmo_core": "Values above mean + 6 sd of the 128 before: OLMo-core's StabilityMonitorCallback.",
    "steps_of_events": "Of each event: start, recovery, amplitude, area.",
}
SUMMARY = {
    "status": "running, interrupted, failed, done or diverged.",
    "diagnosis": "Why a run failed, in one sentence, with the quantity, the step and the layer; null where it is ok.",
    "diverged_step": "The first step whose loss or gradient norm was not finite.",
    "nonfinite": "The first tensor that is not finite in a pass over the batch that broke: what, module, layer, kind.",
    "signal, error, steps, tokens, seconds, pid, processes": "How the run ended, how far it came, where it ran.",
    "treatment_hash": "Names every setting that can change a number, the seed apart.",
    "params": "Parameters: total, non_embedding, active (in one token's pass), norm.",
    "precision, compiled, cuda_graph, device": "What `auto` came to, and whether a CUDA graph could be made.",
    "data.fingerprint, data.tokenizer, data.vocab_size, data.train_tokens, data.val_tokens": "The prepared text.",
    "data.ln_vocab": "The loss of a uniform guess, ln V.",
    "data.unigram_ce": "Loss of the train tokens' frequencies, one added to every count, on the very "
    "tokens that the run is validated on.",
    "data.bigram_ce": "... of their pairs' frequencies, smoothed as by Witten and Bell (1991): p(b|a) = (c(ab) + "
    "s(a) p(b)) / (c(a) + s(a)), s(a) the number of different tokens after a; of the train text's first 2^25 tokens.",
    "data.bytes_per_token": "Bytes of UTF-8 per validation token.",
    "init_loss": "Validation loss before the first step.",
    "final.train_loss": "Mean loss of the last 5 % of the steps, 10 at least.",
    "final.val_loss": "That of the last validation; null where the run diverged.",
    "final.val_bpb": "... in bits per byte.",
    "best_val_loss": "The least of all validations.",
    "startup_overshoot": "Largest loss of the first 100 steps less `init_loss`: events can only be seen from step 65.",
    "clip_rate": "Share of the steps whose gradient was clipped.",
    "tokens_per_s": "Tokens per second, without validation and looks.",
    "flops_per_token": "Floating-point operations of a token's forward and backward pass.",
    "mfu": "Model FLOP/s over the device's peak; null where that is not known.",
    **{f"spikes.loss.{name}, spikes.grad_norm.{name}": text for name, text in _SPIKES.items()},
    "spikes.co_spikes": "Loss events with a gradient-norm event that starts within 8 steps.",
    "spikes.median_lead": "Of those the median of t_loss - t_gradient: positive where the gradient went first.",
    "spikes.score_olmo_core": "Steps at which loss or gradient norm is flagged: OLMo-core's SpikeScore (total).",
    "spikes.score_olmo_core_rolling": "... of the last 10,000 steps: its SpikeScore; null in a shorter run.",
}

# The first pattern that matches a name has its unit.
UNITS = {
    "nats/token": r"loss|val_loss|init_loss|best_val_loss|final\.(train|val)_loss|startup_overshoot|removal_loss"
    r"|data\.(ln_vocab|unigram_ce|bigram_ce)",
    "bits/byte": r"(final\.)?val_bpb",
    "nats": r"attn\.entropy|logits\.log_z",
    "nats; log units": r"spikes\.loss\.max_amplitude",
    "nats^2": r"logits\.log_z_square|(ffn\.)?router_z_loss",
    "nat-steps; log-unit steps": r"spikes\.loss\.total_area",
    "radians": r"update_angle",
    "%": r"spikes\..*score_olmo.*",
    "1/1000 steps": r"spikes\.loss\.events_per_1000",
    "steps": r"steps|spikes\.loss\.median_recovery|spikes\.median_lead",
    "step": r"step|diverged_step|first_bad_step",
    "tokens": r"tokens",
    "tokens/s": r"tokens_per_s",
    "s": r"seconds",
    "bytes/token": r"data\.bytes_per_token",
    "FLOP/token": r"flops_per_token",
    "share": r"clip_rate|(depth\.)?dead_gradients|dead_moments_group|grad_near_eps|spikes\.loss\.recovered_share|mfu"
    r"|ffn\.(zero_fraction|low_fraction|dead_units|gate_saturation)|norm\.dyt_saturation|attn\.entropy_ratio"
    r"|ffn\.load_entropy_ratio",
    "log10": r"update_log10",
}
SIGNS = [
    ["dead gradients: `grad_norm` of a block beside the largest", f"{DEAD:g}", "ours, after runs that were stuck"],
    ["growth of the stream's RMS against its own start", f"{BLOW_UP:g}-fold", "ours"],
    ["growth of a block's gradient norm before it broke", f"{GRADIENT_GROWTH:g}-fold", "ours"],
    ["`attn.max_logit`", f"{LARGEST_LOGIT:g}", "Wortsman et al. 2023: runs above it diverged"],
    ["`attn.entropy_ratio`", f"{LEAST_ENTROPY:g}", "ours"],
    ["`clip_rate`", f"{OFTEN_CLIPPED:g}", "Google's tuning playbook: lower the learning rate"],
    ["`startup_overshoot`", f"{OVERSHOOT:g} nats", "ours"],
    ["`update_ratio`", "far from 1e-3", "CS231n's rule of thumb"],
    ["RMS(g) beside Adam's eps, `grad_near_eps`", "10", "ours, after Wortsman et al. 2023"],
]  # fmt: skip
