"""Hydra's composition, in which configurations that choose the same files share their reading and merging.

Hydra takes a third of a second for one: the cells of a grid, which mostly differ in single values, would take minutes.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from normlab.config.norm_types import norm_types
from normlab.config.paths import shipped
from normlab.config.schema import Config

_FREE_KEYS = ("placement.over", "norm.options", "launch.extra")  # mappings whose keys are the user's

Composed = tuple[DictConfig, Mapping[str, Any]]


def composed(overrides: Sequence[str], folders: Sequence[Path]) -> Composed:
    """The configuration, and the file that each group chose. ``folders``: of the groups. Raises as Hydra does."""
    groups = {path.name for folder in folders for path in folder.glob("*/")}
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    if any(each.is_sweep_override() or each.key_or_group.partition(".")[0] == "hydra" for each in parsed):
        config, choices = _by_hydra(overrides, folders)  # it may look in other folders too
        OmegaConf.set_struct(config, False)
        return config, choices
    files = [each for each in parsed if _chooses(each, groups)]
    values = [each for each in parsed if each not in files]
    base, choices = _base(tuple(str(each.input_line) for each in files), tuple(folders), _state(folders))
    config = copy.deepcopy(base)
    ConfigLoaderImpl._apply_overrides_to_config(values, config)  # what Hydra itself ends a composition with
    OmegaConf.set_struct(config, False)
    return config, choices


def forget() -> None:
    """Read every file anew."""
    _base.cache_clear()


def register_schema(folders: Sequence[Path]) -> None:
    """Give Hydra every key with its default, under the name that configs/config.yaml begins with."""
    defaults = OmegaConf.create(Config().model_dump(mode="json", by_alias=True))
    for path in _FREE_KEYS:
        OmegaConf.set_struct(OmegaConf.select(defaults, path), False)
    store = ConfigStore.instance()
    store.store(name="schema", node=defaults)
    # A norm type needs no YAML file: where there is none, its class is the choice.
    store.repo.pop("norm", None)
    for norm in norm_types(folders).values():
        if not any((folder / "norm" / f"{norm.name}.yaml").is_file() for folder in folders):
            store.store(group="norm", name=norm.name, node={"type": norm.name, "options": dict(norm.options)})


def _chooses(override: Override, groups: set[str]) -> bool:
    """Whether it is about a group's file, and not a mapping for its keys: that is a value among the others."""
    key = override.key_or_group
    named = key in groups or "/" in key or override.package is not None
    return named and not isinstance(override.value(), dict)


def _state(folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """What tells that somebody edited a file in between."""
    found = []
    for folder in folders:
        for path in sorted([*folder.rglob("*.yaml"), *folder.glob("norm/*.py")]):
            with contextlib.suppress(OSError):  # an editor's, gone by now or never there
                stat = path.stat()
                found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)


@functools.lru_cache(maxsize=64)
def _base(files: tuple[str, ...], folders: tuple[Path, ...], state: object) -> Composed:
    return _by_hydra(files, folders)


def _by_hydra(overrides: Sequence[str], folders: Sequence[Path]) -> Composed:
    with _hydra(folders):
        config = compose("config", list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return config, choices


@contextlib.contextmanager
def _hydra(folders: Sequence[Path]) -> Iterator[None]:
    """A Hydra of our own, also where one is already at work (within a sweep)."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    register_schema(folders)
    try:
        with initialize_config_dir(str(shipped("configs").resolve()), job_name="normlab", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        if running is not None:
            GlobalHydra.instance().initialize(running)
