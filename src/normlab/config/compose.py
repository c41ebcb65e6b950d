"""From overrides to a checked Config, by Hydra: the schema's defaults, the YAML groups, the command line.

The defaults are the first layer, so that every key can be overridden without ``+`` and a YAML file holds
only what differs. A ``configs/`` folder of the user's own goes before the shipped one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from normlab.config.check_norms import check_norms
from normlab.config.norm_types import norm_types
from normlab.config.overrides import key_of, tidy
from normlab.config.paths import shipped
from normlab.config.problems import explain_composition, explain_validation
from normlab.config.schema import Config
from normlab.errors import UserError
from normlab.secrecy import find_secret

# The part of a configuration that is called after the file it came from: a file that says its own name is
# a file that lies as soon as somebody copies it.
_NAMED_AFTER_THEIR_FILE = ("placement", "norm", "model", "data", "optim", "launch")
_FREE_KEYS = ("placement.over", "norm.options", "launch.extra")  # mappings whose keys are the user's

_config_dir: ContextVar[Path | None] = ContextVar("config_dir", default=None)


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """The configuration that ``normlab train OVERRIDES`` would run, checked.

    ``config_dir``: a folder with groups of the user's own (``placement/mine.yaml``) besides ``./configs``.
    Raises UserError, in one line, for whatever is wrong with it.
    """
    with user_config_dir(config_dir), _hydra(), one_line_errors():
        composed = hydra_compose("config", tidy(overrides), return_hydra_config=True)
        hydra = composed.hydra
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        return finalize(composed, hydra)


def finalize(composed: DictConfig, hydra: DictConfig) -> Config:
    """Names from the chosen files, interpolations resolved, every key and type checked.

    ``hydra`` is Hydra's own configuration, which knows the chosen files. Raises UserError.
    """
    with one_line_errors():
        plain: Any = OmegaConf.to_container(composed, resolve=True)
        if found := find_secret(plain):
            raise UserError(
                f"{found[0]} holds {found[1]}, and a configuration is written to disk and to wandb; leave it out "
                f"(login variables are read by the libraries themselves)"
            )
        given = {key_of(override).lstrip("+") for override in hydra.overrides.task}
        for group in _NAMED_AFTER_THEIR_FILE:
            choice = hydra.runtime.choices.get(group)
            if choice is not None and f"{group}.name" not in given:
                plain[group]["name"] = choice
        preset = plain["preset"] = hydra.runtime.choices.get("preset")
        if preset is not None and "model" in given:
            raise UserError(f"preset={preset} is a model: leave out model=..., or change single keys: model.n_layers=4")
        if preset is not None and "model.name" not in given:
            plain["model"]["name"] = preset
        if "norm.type" in given and "norm.name" not in given:
            plain["norm"]["name"] = plain["norm"]["type"]
        if "norm.name" in given and "norm.type" not in given:
            plain["norm"]["type"] = None  # the name is the type's
        plain["scale"] = hydra.runtime.choices.get("scale") or plain["scale"]
        try:
            config = Config.model_validate(plain)
        except ValidationError as error:
            raise UserError(explain_validation(error, Config)) from None
        return config.model_copy(update={"norm": check_norms(config, config_folders())})


def register_schema() -> None:
    """Give Hydra every key with its default, under the name that configs/config.yaml begins with."""
    defaults = OmegaConf.create(Config().model_dump(mode="json", by_alias=True))
    for path in _FREE_KEYS:
        OmegaConf.set_struct(OmegaConf.select(defaults, path), False)
    store = ConfigStore.instance()
    store.store(name="schema", node=defaults)
    # A norm type needs no YAML file: where there is none, its class is the choice.
    folders = config_folders()
    store.repo.pop("norm", None)
    for norm in norm_types(folders).values():
        if not any((folder / "norm" / f"{norm.name}.yaml").is_file() for folder in folders):
            store.store(group="norm", name=norm.name, node={"type": norm.name, "options": dict(norm.options)})


@contextlib.contextmanager
def user_config_dir(folder: str | Path | None) -> Iterator[None]:
    """Within it, ``folder`` is searched for groups first. ``None`` keeps what is in force."""
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"--config-dir {folder}: no such folder")
    token = _config_dir.set(Path(folder).resolve() if folder is not None else _config_dir.get())
    try:
        yield
    finally:
        _config_dir.reset(token)


def chosen_config_dir() -> Path | None:
    """The folder of ``--config-dir``, which a sweep's processes must be told of."""
    return _config_dir.get()


def config_folders() -> list[Path]:
    """Where groups are looked for, first to last: --config-dir, ./configs, the shipped folder."""
    own, local = _config_dir.get(), Path("configs").resolve()
    folders = [own] if own else []
    if local.is_dir() and _is_for_normlab(local):
        folders.append(local)
    return list(dict.fromkeys([*folders, shipped("configs").resolve()]))


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Whatever Hydra, OmegaConf or a YAML file complains of, as a UserError of one line."""
    from hydra.errors import HydraException

    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        folders = [str(folder) for folder in config_folders()]
        raise UserError(explain_composition(error, folders)) from None
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        groups = ", ".join(sorted({path.name for folder in config_folders() for path in folder.glob("*/")}))
        raise UserError(f"a group ({groups}) takes the name of one of its files, not a number or null") from None


def _is_for_normlab(folder: Path) -> bool:
    """A folder ``configs`` may belong to another program: then it has a main config that is not ours."""
    main = folder / "config.yaml"
    return not main.is_file() or "normlab" in main.read_text(errors="replace")


@contextlib.contextmanager
def _hydra() -> Iterator[None]:
    """A Hydra of our own, also where one is already at work (within a sweep)."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    register_schema()
    try:
        with initialize_config_dir(str(shipped("configs").resolve()), job_name="normlab", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        if running is not None:
            GlobalHydra.instance().initialize(running)
