"""The network: one block for every placement, built from resolved slots."""

from normlab.model.gpt import GPT

__all__ = ["GPT"]
