"""A formula in a placement is arithmetic: whatever else is written there is refused, in no time."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.errors import UserError
from normlab.placement.expression import evaluate, variables_of
from normlab.placement.layers import layers_of
from normlab.placement.ops import parse_chain

VALUES = {"L": 12, "l": 3, "N": 24, "s": 5, "d": 512, "dh": 64, "t": 100}
HOSTILE = [
    "__import__('os').system('id')", "().__class__.__bases__[0]", "L.__class__", "[x for x in (1,)]", "lambda: 1",
    "(lambda: 1)()", "L if L else d", "L and d", "L < d", "L == 12", "L // 5", "L % 5", "L << 99", "~L", "not L",
    "L[0]", "{1: 2}", "f'{L}'", "'a' * 9", "'9' * 999999999", "L := 3", "*L", "sqrt(*(4,))", "sqrt(x=4)",
    "sqrt(4, **{})", "print(1)", "open('x')", "True", "None", "...", "1j", "b'1'", "9**9**9", "9**9**9**9",
    "floor(9)**floor(99999999999)", "ceil(1e300)**ceil(1e300)", "1e400", "1/0", "ln(0)", "ln(-1)", "sqrt(-1)",
    "(-8)**(1/3)", "min()", "min(3)", "max(1,'a')", "floor(1e400)", "-" * 150 + "1", "(" * 199, "1+" * 99 + "1",
    "9" * 201, "1" * 5000, "sqrt(" * 39 + "1" + ")" * 39, "L\x00", "\x00", "", " ", "L L", "L;d", "L\nd", "٣", "𝟛**",
    "²", "1_0_", "0777", "sqrt", "q", "\ud800", "\u202e1", "await L", "yield", "import os", "L.real", "print",
    "__name__", "L@d", "i" * 200,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _an_end() -> Iterator[None]:
    """What computes for ever shall fail, and not stop all the tests behind it."""

    def give_up(*args: object) -> None:
        raise TimeoutError("this formula takes for ever")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("text", HOSTILE, ids=[ascii(text)[:40] for text in HOSTILE])
def test_what_is_no_arithmetic_is_one_line(text: str) -> None:
    with pytest.raises(UserError):
        evaluate(text, VALUES)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_has_to_be_one(value: float) -> None:
    with pytest.raises(UserError, match="not finite"):
        evaluate(value, VALUES)


@pytest.mark.parametrize(
    ("text", "value"),
    [("(2*L)**(1/4)", 24**0.25), ("min(t/1000, 1)", 0.1), ("-(+3)", -3.0), ("ceil(L/5)*floor(2.5)", 6.0),
     ("  sqrt ( d / dh ) ", 8**0.5), ("1e-3", 1e-3), ("ｄ", 512.0)],  # the last is a wide d, which Python reads as d
)  # fmt: skip
def test_arithmetic_is_as_before(text: str, value: float) -> None:
    assert evaluate(text, VALUES) == pytest.approx(value)


@settings(max_examples=400, deadline=1000)
@given(st.text(alphabet=st.sampled_from("L ldNst0123456789.+-*/()e,|=_[]{}'\"\\%@:;qrfloceimn\x00\n٣ℓ"), max_size=210))
def test_any_text_is_a_number_or_one_line(text: str) -> None:
    for read in (
        lambda: evaluate(text, VALUES),
        lambda: variables_of(text),
        lambda: parse_chain(text, "placement.attn.pre"),
        lambda: layers_of(text, 12),
    ):
        try:
            result = read()
        except UserError:
            continue
        assert not isinstance(result, float) or math.isfinite(result)


@settings(max_examples=200, deadline=1000)
@given(st.recursive(
    st.sampled_from(("L", "d", "9", "0.5", "99999", "1e9")),
    lambda part: st.one_of(
        st.tuples(part, st.sampled_from("+-*/"), part).map("".join),
        st.tuples(part, part).map("({0[0]})**({0[1]})".format),
        part.map("floor({})".format), part.map("ceil({})".format), part.map("-{}".format),
    ), max_leaves=12))  # fmt: skip
def test_no_formula_takes_for_ever(text: str) -> None:
    """Towers of powers above all: the deadline is the test."""
    with contextlib.suppress(UserError):
        assert math.isfinite(evaluate(text, VALUES))


@pytest.mark.parametrize("text", ["1..9**9", "9**9..1", "-9**9..2", "1e9", "1..2..3", "0..3", "1..13"])
def test_layers_are_counted_before_they_are_listed(text: str) -> None:
    with pytest.raises(UserError):
        layers_of(text, 12)


def test_a_slot_holds_so_many_operations() -> None:
    assert len(parse_chain(" | ".join(["n"] * 32), "placement.attn.pre")) == 32
    with pytest.raises(UserError, match="33 operations in one slot"):
        parse_chain(" | ".join(["n"] * 33), "placement.attn.pre")
