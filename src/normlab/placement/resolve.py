"""From a placement to the slots of each layer, all expressions evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from normlab.errors import UserError, nearest
from normlab.placement.check import check_op, check_shares, check_sources, check_ties, check_wiring
from normlab.placement.expression import evaluate, variables_of
from normlab.placement.layers import layers_of
from normlab.placement.ops import PROFILE, Form, Norm, Op, Scale, flag, parse_chain, read_arguments
from normlab.placement.schema import Placement, Sublayer

_SLOTS = ("pre", "q", "k", "v", "ctx", "gate", "up", "hidden", "out", "skip", "post")
_MIXES = {
    "add": Form(False, {}),  # skip + out
    "lerp": Form(True, {"stored": (), "decay": ("yes", "no")}),  # skip + |a| (out - skip), a learned per channel
    "gate": Form(True, {"decay": ("yes", "no")}),  # sqrt(1 - w^2) skip + w out, w a learned gate per channel
}


@dataclass(frozen=True)
class Schedule:
    """A constant that follows the step: an expression in ``t``, the other variables bound."""

    expression: str
    variables: tuple[tuple[str, float], ...]

    def __call__(self, t: int) -> float:
        return evaluate(self.expression, {**dict(self.variables), "t": t})


@dataclass(frozen=True)
class ResolvedOp:
    """One operation with its numbers: a norm's initial gain, or a scale's (initial) value and how it is stored."""

    op: Op
    value: float = 1.0
    stored: float | None = None
    schedule: Schedule | None = None


@dataclass(frozen=True)
class ResolvedMix:
    """How skip and branch become one stream: ``add``, ``lerp`` (nGPT) or ``gate`` (Muse)."""

    kind: str = "add"
    value: float = 1.0
    stored: float | None = None
    decay: bool | None = None


@dataclass(frozen=True)
class ResolvedSublayer:
    """The chains of one sublayer by slot name (identities left out), where it reads, where its skip starts."""

    slots: Mapping[str, tuple[ResolvedOp, ...]] = field(default_factory=dict)
    read: str = "x"
    skip_from: str = "x"
    mix: ResolvedMix = ResolvedMix()

    def chain(self, slot: str) -> tuple[ResolvedOp, ...]:
        return self.slots.get(slot, ())


@dataclass(frozen=True)
class ResolvedBlock:
    attn: ResolvedSublayer
    ffn: ResolvedSublayer


@dataclass(frozen=True)
class ResolvedPlacement:
    blocks: tuple[ResolvedBlock, ...]
    embed: tuple[ResolvedOp, ...]
    final: tuple[ResolvedOp, ...]
    logits: tuple[ResolvedOp, ...]

    def ops(self) -> list[ResolvedOp]:
        """Every operation of the network."""
        chains = [self.embed, self.final, self.logits]
        for block in self.blocks:
            chains += [*block.attn.slots.values(), *block.ffn.slots.values()]
        return [op for chain in chains for op in chain]


def resolve(placement: Placement, n_layers: int, d_model: int, d_head: int) -> ResolvedPlacement:
    """Evaluate a placement for a network of that depth and those widths. Raises UserError where it makes no sense."""
    stack = {"L": n_layers, "N": 2 * n_layers, "d": d_model, "dh": d_head}
    chosen = _override_per_layer(placement, n_layers)
    blocks = []
    for layer in range(1, n_layers + 1):
        resolved = {}
        for number, (name, slots) in enumerate(zip(("attn", "ffn"), chosen[layer], strict=True)):
            check_wiring(placement.wiring, slots, f"placement.{name}")
            resolved[name] = _resolve_sublayer(slots, name, {**stack, "l": layer, "s": 2 * layer - 1 + number})
        check_sources(chosen[layer][0])
        check_shares(resolved, layer)
        check_ties(resolved, layer)
        blocks.append(ResolvedBlock(**resolved))
    # Before the first layer and after the last there is no `l`.
    ends = {
        name: _resolve_chain(getattr(placement, name), name, f"placement.{name}", stack)
        for name in ("embed", "final", "logits")
    }
    return ResolvedPlacement(tuple(blocks), **ends)


def _override_per_layer(placement: Placement, n_layers: int) -> dict[int, tuple[Sublayer, Sublayer]]:
    base: tuple[Sublayer, Sublayer] = (placement.attn, placement.ffn)
    chosen = dict.fromkeys(range(1, n_layers + 1), base)
    claimed: dict[int, str] = {}
    for key, block in placement.over.items():
        for layer in layers_of(key, n_layers):
            if layer in claimed:
                raise UserError(f"placement.over: layer {layer} is named by '{claimed[layer]}' and by '{key}'")
            claimed[layer] = key
            attn, ffn = chosen[layer]
            chosen[layer] = (block.attn or attn, block.ffn or ffn)
    return chosen


def _resolve_sublayer(slots: Sublayer, name: str, variables: Mapping[str, float]) -> ResolvedSublayer:
    chains = {
        slot: _resolve_chain(getattr(slots, slot), f"{name}.{slot}", f"placement.{name}.{slot}", variables)
        for slot in _SLOTS
        if getattr(slots, slot, None) is not None
    }
    return ResolvedSublayer(
        chains, slots.read, slots.from_, _resolve_mix(slots.mix, f"placement.{name}.mix", variables)
    )


def _resolve_chain(text: str | None, slot: str, where: str, variables: Mapping[str, float]) -> tuple[ResolvedOp, ...]:
    ops = parse_chain(text, where)
    resolved = []
    for op in ops:
        check_op(op, slot, where, alone=len(ops) == 1)
        try:
            resolved.append(_resolve_op(op, variables))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    return tuple(resolved)


def _resolve_op(op: Op, variables: Mapping[str, float]) -> ResolvedOp:
    match op:
        case Norm(gain=expression):
            return ResolvedOp(op, evaluate(expression, variables))
        case Scale(value=value) if value == PROFILE:
            return ResolvedOp(op)
        case Scale(kind="c", value=expression) if "t" in variables_of(expression):
            schedule = Schedule(expression, tuple(variables.items()))
            return ResolvedOp(op, schedule(0), schedule=schedule)
        case Scale(value=expression, stored=stored):
            return ResolvedOp(op, evaluate(expression, variables), _stored(stored, variables))
    return ResolvedOp(op)


def _resolve_mix(text: str, where: str, variables: Mapping[str, float]) -> ResolvedMix:
    name, _, rest = text.strip().partition("(")
    name = name.strip()
    if name not in _MIXES or (rest and not rest.rstrip().endswith(")")):
        raise UserError(f"{where}: unknown mix '{text}'; {nearest(name, _MIXES)}")
    value, options = read_arguments(rest.rstrip()[:-1], _MIXES[name], name, where)
    try:
        number = evaluate(value or "1", variables)
        if name == "gate" and number <= 0:
            raise UserError(f"gate({value}): a temperature is more than 0")
        return ResolvedMix(name, number, _stored(options.get("stored"), variables), flag(options, "decay"))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _stored(text: str | None, variables: Mapping[str, float]) -> float | None:
    number = None if text is None else evaluate(text, variables)
    if number == 0:
        raise UserError("stored=0: a scale that is stored as 0 has no value to recover")
    return number
