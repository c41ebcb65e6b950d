"""A configuration's network."""

from __future__ import annotations

from normlab.config.schema import Config
from normlab.data import vocab_size_of
from normlab.model.gpt import GPT


def build_model(config: Config) -> GPT:
    """The network of ``config``, initialised from ``config.seed``, on the CPU in float32.

    ``model(tokens)`` gives logits (B, T, V) for tokens (B, T); ``model(tokens, targets)`` the mean loss in nats.
    """
    return GPT(config, config.model.vocab_size or vocab_size_of(config.data))
