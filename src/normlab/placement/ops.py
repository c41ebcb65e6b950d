"""A slot's chain of unary operations: ``n | c(1/sqrt(l))``.

op   = n                      the run's norm type
     | n(gain=e, affine=yes|no, scope=head|full, at=pre_rope|post_rope, decay=yes|no)
     | c(e)                   constant scale
     | s(e)                   learned scalar, initialised to e
     | v(e)                   learned vector, initialised to e
     | =attn.pre              the module of another slot of the same block, shared
e    = an expression (see ``expression.py``)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from normlab.errors import UserError, nearest

OPS = {
    "n": "the run's norm",
    "c": "constant scale",
    "s": "learned scalar",
    "v": "learned vector",
    "=slot": "share another slot's module",
}
_NORM_OPTIONS: dict[str, tuple[str, ...] | None] = {
    "gain": None,  # an expression
    "affine": ("yes", "no"),
    "scope": ("head", "full"),
    "at": ("pre_rope", "post_rope"),
    "decay": ("yes", "no"),
}
_OP = re.compile(r"^(?P<name>[A-Za-z_]\w*)\s*(?:\((?P<args>.*)\))?$", re.DOTALL)


@dataclass(frozen=True)
class Norm:
    """``n(...)``: the run's norm type with the options of this slot."""

    gain: str = "1"
    affine: bool = True
    scope: str = "head"
    at: str = "pre_rope"
    decay: bool | None = None  # None: as the optimizer's `decay_gains` says


@dataclass(frozen=True)
class Scale:
    """``c(e)``, ``s(e)`` or ``v(e)``: a scale that is constant, a learned scalar, or a learned vector."""

    kind: str
    value: str


@dataclass(frozen=True)
class Share:
    """``=attn.pre``: the module that another slot of this block owns."""

    sublayer: str
    slot: str


Op = Norm | Scale | Share


def parse_chain(text: str | None, where: str) -> tuple[Op, ...]:
    """The operations of one slot, in the order in which they are applied. ``None`` is the identity."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split("|")]
    if not all(parts):
        raise UserError(f"{where}: empty operation in '{text}'; write 'n', 'n | c(0.5)' or null")
    return tuple(_parse_op(part, where) for part in parts)


def _parse_op(text: str, where: str) -> Op:
    if text.startswith("="):
        sublayer, dot, slot = text[1:].strip().partition(".")
        if not dot or sublayer not in ("attn", "ffn") or not slot.isidentifier():
            raise UserError(f"{where}: '{text}' shares no slot; write for example '=attn.pre'")
        return Share(sublayer, slot)
    match = _OP.match(text)
    if not match or match["name"] not in OPS:
        word = match["name"] if match else text
        raise UserError(f"{where}: unknown operation '{word}'; {nearest(word, OPS)}")
    name, args = match["name"], match["args"]
    if name == "n":
        return _parse_norm(args or "", where)
    if not args or not args.strip():
        raise UserError(f"{where}: '{name}' needs a value, for example {name}(1)")
    return Scale(name, args.strip())


def _parse_norm(args: str, where: str) -> Norm:
    options: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in split_top_level(args))):
        key, equals, value = (piece.strip() for piece in item.partition("="))
        if key not in _NORM_OPTIONS:
            raise UserError(f"{where}: unknown option '{key}' of n(...); {nearest(key, _NORM_OPTIONS)}")
        allowed = _NORM_OPTIONS[key]
        if not equals or not value or (allowed and value not in allowed):
            expected = " or ".join(f"{key}={choice}" for choice in allowed or ("1/sqrt(L)",))
            raise UserError(f"{where}: bad option '{item}' of n(...); write {expected}")
        options[key] = value
    if options.get("affine") == "no" and "gain" in options:
        raise UserError(f"{where}: n(affine=no) has no gain to set; write '... | c({options['gain']})' for a constant")
    flags = {key: options[key] == "yes" for key in ("affine", "decay") if key in options}
    words = {key: options[key] for key in ("gain", "scope", "at") if key in options}
    return Norm(**words, **flags)  # type: ignore[arg-type]


def split_top_level(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotes: ``n,n(gain=min(1,l))`` has two parts."""
    pieces, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        depth += 0 if quote else (char in "([{") - (char in ")]}")
        if char == "," and depth == 0 and not quote:
            pieces.append("")
        else:
            pieces[-1] += char
    return pieces
