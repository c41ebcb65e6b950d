"""The typed configuration of a run: schema, composition by Hydra, identity."""

from normlab.config.schema import Config

__all__ = ["Config"]
