"""What the quantities of probes.jsonl and metrics.jsonl are called, and which are looked at first.

Any quantity that a run wrote can be chosen; one without a name here goes by its own.
"""

from __future__ import annotations

# The profiles that are drawn side by side before anything is chosen, as far as the runs have them.
FIRST = ("grad_norm", "update_ratio", "ffn.rms_sum", "attn.max_logit", "attn.entropy", "stream.token_cosine")
FIRST_MORE = ("ffn.rms_out", "attn.rms_sum", "attn.entropy_ratio", "update_angle")

TITLES = {
    "grad_norm": "Gradient norm of the block",
    "grad_norm_group": "Gradient norm by kind of matrix",
    "update_ratio": "Relative update ‖ΔW‖/‖W‖",
    "update_angle": "Angle of the update (rad)",
    "attn.rms_in": "RMS of the stream before attention",
    "attn.rms_branch": "RMS of what attention adds",
    "attn.rms_sum": "RMS of the stream + attention, before a post-norm",
    "attn.rms_out": "RMS of the stream after attention",
    "ffn.rms_in": "RMS of the stream before the FFN",
    "ffn.rms_branch": "RMS of what the FFN adds",
    "ffn.rms_sum": "RMS of the stream + FFN, before a post-norm",
    "ffn.rms_out": "RMS of the stream after the block",
    "attn.max_logit": "Largest attention logit",
    "attn.entropy": "Attention entropy (nats)",
    "attn.entropy_ratio": "Attention entropy / its maximum",
    "stream.token_cosine": "Mean cosine of two tokens",
    "stream.effective_rank": "Effective rank of the tokens",
    "stream.stable_rank": "Stable rank of the tokens",
    "stream.grad_norm": "Gradient of the loss at the stream",
    "stream.variance": "Variance of the stream",
    "stream.max_abs": "Largest entry of the stream",
    "stream.kurtosis": "Excess kurtosis of the stream",
    "removal_loss": "Loss added by removing the block",
    "angular_distance": "Angular distance of the streams after l and l + n blocks",
    "logits.log_z": "log Z of the output",
    "logits.rms": "RMS of the output logits",
    "dead_gradients": "Share of blocks with a dead gradient",
    "grad_slope": "Log-log slope of the gradient norm over depth",
    "val_bpb": "Validation bits per byte",
    "clipped": "Clipped",
}


def title(quantity: str) -> str:
    return TITLES.get(quantity, quantity)


def first_quantities(present: list[str], count: int = 6) -> list[str]:
    """At most ``count`` of the quantities that are present: those that tell placements apart first."""
    return [name for name in (*FIRST, *FIRST_MORE) if name in present][:count]
