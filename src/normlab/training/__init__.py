"""Training: the one folder that knows model, data and observation together."""

from normlab.training.build import build_model
from normlab.training.run import train

__all__ = ["build_model", "train"]
