"""What a user got wrong in a configuration, as one line with the nearest valid name."""

from __future__ import annotations

import difflib
import functools
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from normlab.config.norm_types import norm_types
from normlab.config.schema import Config
from normlab.errors import nearest


def explain_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a pydantic error: which key, what was given, what would do."""
    problems = error.errors(include_url=False)
    # A misspelt key is often a missing one too; what the user wrote says more than what is not there.
    problem = next((found for found in problems if found["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"] if not _is_branch_label(part))
    given = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            return unknown_key(where, _fields_at(model, problem["loc"][:-1]))
        case "literal_error":
            choices = [word.strip(" '") for word in problem["ctx"]["expected"].replace(" or ", ", ").split(",")]
            return f"{where}={given}: {nearest(str(given), choices)}"
        case "string_pattern_mismatch":
            return f"{where}={given!r}: use letters, digits, '.', '_' and '-', at most 64"
        case "value_error":
            return str(problem["ctx"]["error"])
        case "missing":
            return f"key '{where}' is missing"
    wanted = problem["msg"].removeprefix("Input should be ")
    return f"{where}={given!r}: should be {wanted[0].lower() + wanted[1:]}"


def _is_branch_label(part: object) -> bool:
    """pydantic names the branches of a union in a location (`str`, `InitSpec`); no user wrote them."""
    return isinstance(part, str) and (part in ("str", "int", "float", "bool") or part[:1].isupper())


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are valid where an unknown one was found."""
    for part in location:
        if _is_branch_label(part) or isinstance(part, int):
            continue
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                inner = _model_in(field.annotation)
                if inner is None:
                    return []
                model = inner
                break
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model that an annotation such as ``dict[str, Block]`` or ``str | InitSpec`` holds, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (dict, list, tuple, typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            if (found := _model_in(argument)) is not None:
                return found
    return None


def explain_composition(error: Exception, folders: Sequence[str]) -> str:
    """One line for an error of Hydra, OmegaConf or YAML. ``folders``: where groups were looked for."""
    text = str(error)
    if (missing := getattr(error, "missing_cfg_file", None)) is not None:
        group, _, name = missing.rpartition("/")
        return f"unknown {group or 'config'} '{name}'; {nearest(name, _options(group, folders))}"
    if overridden := re.search(r"Could not (?:override|delete from config\.) '([^']+)'", text):
        key = overridden[1].partition("@")[0]
        within = re.search(r"full_key: (\S+)", str(error.__cause__))  # a mapping's: optim={lrr: 1}
        return unknown_key(within[1] if within and key in _defaults() else key)
    if several := re.search(r"Ambiguous value for argument '(.*)'|Sweep parameters '(.*)' requires", text):
        override = several[1] or several[2]
        key, _, value = override.partition("=")
        as_list = f"; for a list write {key}=[{value}]" if isinstance(_defaults().get(key), list) else ""
        return f"{override} is several values: add --multirun to run them all{as_list}"
    if existing := re.search(r"An item is already at '([^']+)'", text):
        return f"'{existing[1]}' exists already: write it without the +"
    if getattr(error, "override", None) is not None:
        return _explain_syntax(error.override, text)  # type: ignore[attr-defined]
    # OmegaConf's own words come last in the chain and are the most precise; their first line is enough.
    deepest: BaseException = error
    while deepest.__cause__ is not None or deepest.__context__ is not None:
        deepest = deepest.__cause__ or deepest.__context__  # type: ignore[assignment]
    lines = str(deepest).splitlines() or [type(deepest).__name__]
    first = " ".join(str(deepest).split()) if type(deepest).__module__.startswith("yaml") else lines[0]
    full_key = re.search(r"full_key: (\S+)", str(deepest))
    return f"{full_key[1]}: {first}" if full_key else first


def unknown_key(key: str, known: Sequence[str] = ()) -> str:
    """The error line for a key that does not exist. ``known``: those that do, if not the schema's."""
    parent, _, leaf = key.rpartition(".")
    for section in ("init", "placement.init"):
        if key.startswith(f"{section}."):
            return f"'{key}' needs the whole init; write {section}='{{base: normal, gain: {{o: 0.5}}}}'"
    defaults = _defaults()
    if parent in defaults and not isinstance(defaults[parent], dict):
        return f"unknown key '{key}'; {parent} is a value and has no key '{leaf}'"
    if close := nearest_key(key):
        return f"unknown key '{key}'; did you mean '{close}'?"
    siblings = known or [other for other in defaults if other.rpartition(".")[0] == parent]
    words = [other.rpartition(".")[2] for other in siblings] or [other for other in defaults if "." not in other]
    return f"unknown key '{key}'; {nearest(leaf, words)}"


def nearest_key(key: str) -> str | None:
    """The key of the schema that ``key`` was probably meant to be: the same word elsewhere, or a like one."""
    parent, _, leaf = key.rpartition(".")

    def likeness(known: str) -> tuple[float, float]:
        known_parent, _, known_leaf = known.rpartition(".")
        return _ratio(leaf, known_leaf), _ratio(parent, known_parent) if parent else 0.0

    scored = [(likeness(known), known) for known in _defaults()]
    (leaf_likeness, parent_likeness), best = max(
        scored, key=lambda item: (item[0][0] + 0.3 * item[0][1], -len(item[1]))
    )
    return best if leaf_likeness >= 0.65 or (leaf_likeness >= 0.5 and parent_likeness == 1) else None


@functools.cache
def _defaults() -> dict[str, object]:
    """Every key of a run's configuration by its path, with its default; sections are keys too."""

    def below(node: dict[str, object], path: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in node.items():
            found[path + key] = value
            found |= below(value, f"{path}{key}.") if isinstance(value, dict) else {}
        return found

    return below(Config().model_dump(mode="json", by_alias=True), "")


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _options(group: str, folders: Sequence[str]) -> list[str]:
    files = [path.stem for folder in folders for path in (Path(folder) / group).glob("*.yaml")]
    return [*files, *norm_types([Path(folder) for folder in folders])] if group == "norm" else files


def _explain_syntax(override: str, text: str) -> str:
    key, _, value = override.partition("=")
    if function := re.search(r"Unknown function '([^']+)'", text):
        return f"{key}: '{function[1]}(...)' has to be in quotes within quotes: \"{key}='{value}'\""
    if any(value.count(opening) != value.count(closing) for opening, closing in ("[]", "{}", "()")):
        return f"cannot read {override}: a bracket is not closed"
    return f"cannot read {override}: a value with signs goes in quotes within quotes: \"{key}='{value}'\""
