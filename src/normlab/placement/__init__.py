"""Placements as data: the grammar of one equation, and nothing of torch.

y = post( skip(x_from) + out( F( pre(x_read) ) ) )
"""

from normlab.placement.resolve import ResolvedBlock, ResolvedSublayer, resolve
from normlab.placement.schema import Block, InitSpec, Placement

__all__ = ["Block", "InitSpec", "Placement", "ResolvedBlock", "ResolvedSublayer", "resolve"]
