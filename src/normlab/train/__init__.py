"""Training: the one folder that knows model, data and observation together."""

from normlab.train.build import build_model
from normlab.train.run import train

__all__ = ["build_model", "train"]
