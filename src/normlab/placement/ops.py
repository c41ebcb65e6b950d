"""A slot's chain of unary operations: ``n | c(1/sqrt(l))``. What each means is in ``FORMS`` below.

chain = op | op | ...         applied from left to right
op    = n, c(e), s(e), v(e), head(e), aff, l2, gpas, =attn.pre
e     = an expression (see ``expression.py``)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from normlab.errors import UserError, nearest


@dataclass(frozen=True)
class Norm:
    """``n(...)``: the run's norm type, or another by ``type``, with the options of this slot."""

    gain: str = "1"
    affine: bool = True
    scope: str = "head"
    at: str = "pre_rope"
    decay: bool | None = None  # None: as the optimizer's `decay_gains` says
    type: str | None = None  # None: the run's
    options: tuple[tuple[str, str], ...] = ()  # of the norm type: n(alpha=0.2)


@dataclass(frozen=True)
class Scale:
    """``c``, ``s``, ``v`` or ``head``: a scale that is constant, a learned scalar, a vector, or one number per head.

    With ``stored``, the parameter holds that value where the scale has ``value``: the scale is weight * value/stored,
    so that Adam moves it ``value/stored`` times as fast (nGPT, Loshchilov et al. 2024, arXiv 2410.01131, section 2.5).
    """

    kind: str
    value: str
    stored: str | None = None
    scope: str = "head"
    at: str = "pre_rope"
    tie: bool = False  # one scalar for attention and FFN of a layer
    decay: bool | None = None


@dataclass(frozen=True)
class Affine:
    """``aff``: a * (x + c) with learned vectors, a = 1 and c = 0 at first."""

    decay: bool | None = None


@dataclass(frozen=True)
class Unit:
    """``l2``: x / ||x||, without an epsilon."""

    scope: str = "head"
    at: str = "pre_rope"


@dataclass(frozen=True)
class Gpas:
    """``gpas``: x - SiLU(g) stopgrad(x), g = 0 at first. Chen et al. 2025 (arXiv 2506.22049)."""

    tie: bool = False


@dataclass(frozen=True)
class Share:
    """``=attn.pre``: the module that another slot of this block owns."""

    sublayer: str
    slot: str


Op = Norm | Scale | Affine | Unit | Gpas | Share
PROFILE = "profile"  # v(profile): set by a forward pass before training (Admin)

_YES_NO, _SCOPE, _AT, _TIE = ("yes", "no"), ("head", "full"), ("pre_rope", "post_rope"), ("layer",)
_EXPRESSION = ()  # any formula; the others name what they take


@dataclass(frozen=True)
class Form:
    """How an operation is written: whether it needs a value in front, and its options."""

    needs_value: bool
    options: Mapping[str, tuple[str, ...]]


FORMS = {
    # "the run's norm"
    "n": Form(
        False,
        {"gain": _EXPRESSION, "affine": _YES_NO, "scope": _SCOPE, "at": _AT, "decay": _YES_NO, "type": _EXPRESSION},
    ),
    "c": Form(True, {}),  # constant scale
    "s": Form(True, {"tie": _TIE, "stored": _EXPRESSION, "decay": _YES_NO}),  # learned scalar
    "v": Form(True, {"stored": _EXPRESSION, "scope": _SCOPE, "at": _AT, "decay": _YES_NO}),  # learned vector
    "head": Form(True, {"decay": _YES_NO}),  # learned scale of each head
    "aff": Form(False, {"decay": _YES_NO}),  # learned a * (x + c)
    "l2": Form(False, {"scope": _SCOPE, "at": _AT}),  # x / ||x||
    "gpas": Form(False, {"tie": _TIE}),  # x - SiLU(g) stopgrad(x)
}  # fmt: skip
_MAX_OPS = 32  # in one slot; a configuration is not a program
_OP = re.compile(r"^(?P<name>[A-Za-z_]\w*)\s*(?:\((?P<args>.*)\))?$", re.DOTALL)


def parse_chain(text: str | None, where: str) -> tuple[Op, ...]:
    """The operations of one slot, in the order in which they are applied. ``None`` is the identity."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split("|")]
    if not all(parts):
        raise UserError(f"{where}: empty operation in '{text}'; write 'n', 'n | c(0.5)' or null")
    if len(parts) > _MAX_OPS:
        raise UserError(f"{where}: {len(parts)} operations in one slot; the limit is {_MAX_OPS}")
    return tuple(_parse_op(part, where) for part in parts)


def _parse_op(text: str, where: str) -> Op:
    if text.startswith("="):
        sublayer, dot, slot = text[1:].strip().partition(".")
        if not dot or sublayer not in ("attn", "ffn") or not slot.isidentifier():
            raise UserError(f"{where}: '{text}' shares no slot; write for example '=attn.pre'")
        return Share(sublayer, slot)
    match = _OP.match(text)
    if not match or match["name"] not in FORMS:
        word = match["name"] if match else text
        raise UserError(f"{where}: unknown operation '{word}'; {nearest(word, [*FORMS, '=slot'])}")
    name = match["name"]
    value, options = read_arguments(match["args"] or "", FORMS[name], name, where)
    match name:
        case "n":
            return _norm(options, where)
        case "aff":
            return Affine(decay=flag(options, "decay"))
        case "l2":
            return Unit(**options)
        case "gpas":
            return Gpas(tie="tie" in options)
    words = {key: options[key] for key in ("stored", "scope", "at") if key in options}
    return Scale(name, value, tie="tie" in options, decay=flag(options, "decay"), **words)


def read_arguments(args: str, form: Form, name: str, where: str) -> tuple[str, dict[str, str]]:
    """``0.05, stored=1/sqrt(d)`` -> the value in front (or "") and the options, as ``form`` allows them."""
    value, options = "", {}
    for number, item in enumerate(filter(None, (piece.strip() for piece in split_top_level(args)))):
        key, equals, text = (piece.strip() for piece in item.partition("="))
        if form.needs_value and number == 0 and not equals:
            value = item
            continue
        if key not in form.options and not (name == "n" and key.isidentifier()):
            raise UserError(f"{where}: unknown option '{key}' of {name}(...); {nearest(key, form.options)}")
        allowed = form.options.get(key, _EXPRESSION)
        if not equals or not text or (allowed and text not in allowed):
            expected = " or ".join(f"{key}={choice}" for choice in allowed or ("1/sqrt(L)",))
            raise UserError(f"{where}: bad option '{item}' of {name}(...); write {expected}")
        options[key] = text
    if form.needs_value and not value:
        raise UserError(f"{where}: '{name}' needs a value, for example {name}(1)")
    return value, options


def _norm(options: dict[str, str], where: str) -> Norm:
    if options.get("affine") == "no" and "gain" in options:
        raise UserError(f"{where}: n(affine=no) has no gain to set; write '... | c({options['gain']})' for a constant")
    words = {key: options[key] for key in ("gain", "scope", "at", "type") if key in options}
    own = tuple((key, text) for key, text in options.items() if key not in FORMS["n"].options)
    return Norm(**words, affine=options.get("affine") != "no", decay=flag(options, "decay"), options=own)


def flag(options: Mapping[str, str], key: str) -> bool | None:
    """yes, no, or None where nothing is said."""
    return None if key not in options else options[key] == "yes"


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
