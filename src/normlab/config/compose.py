"""From overrides to a checked Config, by Hydra: the schema's defaults, the YAML groups, the command line.

The defaults are the first layer, so that every key can be overridden without ``+`` and a YAML file holds
only what differs. A ``configs/`` folder of the user's own goes before the shipped one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from normlab.config.check_norms import check_norms
from normlab.config.composer import composed
from normlab.config.overrides import key_of, tidy
from normlab.config.paths import shipped
from normlab.config.problems import explain_composition, explain_validation
from normlab.config.schema import Config
from normlab.errors import UserError
from normlab.secrecy import find_secret

# The part of a configuration that is called after the file it came from: a file that says its own name is
# a file that lies as soon as somebody copies it.
_NAMED_AFTER_THEIR_FILE = ("placement", "norm", "model", "data", "optim", "launch")

_config_dir: ContextVar[Path | None] = ContextVar("config_dir", default=None)


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """The configuration that ``normlab train OVERRIDES`` would run, checked.

    ``config_dir``: a folder with groups of the user's own (``placement/mine.yaml``) besides ``./configs``.
    Raises UserError, in one line, for whatever is wrong with it.
    """
    with user_config_dir(config_dir), one_line_errors():
        tidied = tidy(overrides)
        return finalize(*composed(tidied, config_folders()), tidied)


def finalize(whole: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """Names from the chosen files, interpolations resolved, every key and type checked.

    ``choices``: the file of each group, as Hydra chose; ``overrides``: what it was asked for. Raises UserError.
    """
    with one_line_errors():
        plain: Any = OmegaConf.to_container(whole, resolve=True)
        if found := find_secret(plain):
            raise UserError(
                f"{found[0]} holds {found[1]}, and a configuration is written to disk and to wandb; leave it out "
                f"(login variables are read by the libraries themselves)"
            )
        given = {key_of(override).lstrip("+") for override in overrides}
        for group in _NAMED_AFTER_THEIR_FILE:
            choice = choices.get(group)
            if choice is not None and f"{group}.name" not in given:
                plain[group]["name"] = choice
        preset = plain["preset"] = choices.get("preset")
        if preset is not None and "model" in given:
            raise UserError(f"preset={preset} is a model: leave out model=..., or change single keys: model.n_layers=4")
        if preset is not None and "model.name" not in given:
            plain["model"]["name"] = preset
        if "norm.type" in given and "norm.name" not in given:
            plain["norm"]["name"] = plain["norm"]["type"]
        if "norm.name" in given and "norm.type" not in given:
            plain["norm"]["type"] = None  # the name is the type's
        plain["scale"] = choices.get("scale") or plain["scale"]
        try:
            config = Config.model_validate(plain)
        except ValidationError as error:
            raise UserError(explain_validation(error, Config)) from None
        return config.model_copy(update={"norm": check_norms(config, config_folders())})


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
