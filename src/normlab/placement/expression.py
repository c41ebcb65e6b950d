"""Arithmetic over a network's depth and width, parsed and checked, never ``eval``-ed.

evaluate("(2*L)**(1/4)", {"L": 12})  ->  2.213...
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import warnings
from collections.abc import Callable, Mapping

from normlab.errors import UserError, nearest

VARIABLES = {
    "L": "number of layers",
    "l": "this layer, 1-based",
    "N": "number of sublayers, 2L",
    "s": "this sublayer, 1-based",
    "d": "width of the residual stream",
    "dh": "width of a head",
    "t": "optimizer steps done: a schedule, in c(...) only",
}
FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt,
    "ln": math.log,
    "ceil": math.ceil,
    "floor": math.floor,
    "min": min,
    "max": max,
}
_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_MAX_LENGTH = 200  # characters: an expression is a formula of a paper, not a program
_MAX_DEPTH = 32  # of nested operations


def evaluate(text: str | float | int, values: Mapping[str, float]) -> float:
    """The number that ``text`` stands for, with the variables of ``VARIABLES`` taken from ``values``.

    Raises UserError for anything but numbers, those variables, + - * / **, and the functions above.
    """
    try:
        result = float(text if isinstance(text, (int, float)) else _value(_parse(text).body, values, text))
    except (ZeroDivisionError, ValueError, OverflowError, TypeError) as error:
        raise UserError(f"expression '{text}' has no value: {error}") from None
    if not math.isfinite(result):
        raise UserError(f"expression '{text}' is not finite")
    return result


def variables_of(text: str) -> set[str]:
    """The names that stand in an expression. Raises UserError where it cannot be read."""
    return {node.id for node in ast.walk(_parse(text)) if isinstance(node, ast.Name)}


@functools.lru_cache(maxsize=512)  # a deep network asks for the same formula in every layer
def _parse(text: str) -> ast.Expression:
    if len(text) > _MAX_LENGTH:
        raise UserError(f"expression of {len(text)} characters; the limit is {_MAX_LENGTH}")
    try:
        with warnings.catch_warnings(action="ignore"):  # Python's remarks on odd literals are not the user's business
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # a null byte, too many brackets
        raise UserError(f"bad expression '{text}': write arithmetic such as (2*L)**(1/4)") from None
    level: list[ast.AST] = [tree.body]
    for _ in range(_MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise UserError(f"expression '{text}' is nested deeper than {_MAX_DEPTH}")
    return tree


def _value(node: ast.expr, values: Mapping[str, float], text: str) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)  # a float overflows where an integer would grow for ever
        case ast.Name(id=name):
            if name not in values:
                raise UserError(f"unknown variable '{name}' in '{text}'; {nearest(name, values)}")
            return float(values[name])  # as above: L**d**d
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand, values, text))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            a, b = _value(left, values, text), _value(right, values, text)
            return _OPERATORS[type(op)](a, b)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in FUNCTIONS:
                raise UserError(f"unknown function '{name}' in '{text}'; {nearest(name, FUNCTIONS)}")
            # floor and ceil give integers, whose powers would be computed digit by digit
            return float(FUNCTIONS[name](*(_value(arg, values, text) for arg in args)))
    raise UserError(f"bad expression '{text}': only numbers, {', '.join(VARIABLES)}, + - * / ** and functions")
