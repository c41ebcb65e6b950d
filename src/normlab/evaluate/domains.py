"""Held-out text of a domain: which it is, and how well a run predicts it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from normlab.config.compose import compose, config_folders
from normlab.config.overrides import quoted
from normlab.config.paths import read_mapping
from normlab.config.schema import DataConfig
from normlab.data.sources import Source, open_source
from normlab.data.splits import limited, split_source
from normlab.data.text_files import find_files
from normlab.data.tokenizer import Tokenizer, pieces
from normlab.errors import UserError, nearest
from normlab.evaluate.trained import Trained
from normlab.training.held_out import mean_loss

# What a text is, whoever reads it: not its tokenizer, which is the run's, nor where things lie.
_TEXT = ("source", "paths", "val_paths", "text_field", "hub_id", "hub_config", "hub_revision", "split", "val_split")


@dataclass(frozen=True)
class Domain:
    """A text to predict, by the name that its results have."""

    name: str
    data: DataConfig

    @property
    def text(self) -> dict[str, Any]:
        """Which text it is, to be written down beside a result."""
        plain = self.data.model_dump(mode="json")
        return {key: plain[key] for key in _TEXT if plain[key] not in (None, [])}


def find_domains(asked: str, overrides: Sequence[str] = (), name: str | None = None) -> list[Domain]:
    """``c4,wiki``: the files ``configs/domain/NAME.yaml``; ``data=files``: a domain made of data settings.

    ``overrides`` are data settings, on top of a file's, or instead of it where they name a ``data=``. ``name``: what a
    domain made of settings is called; None: its data's name. Raises UserError for whatever is wrong with them.
    """
    if "=" in asked or not asked:
        overrides = [*([asked] if asked else []), *overrides]
        data = _compose(overrides)
        return [Domain(_checked(name or data.name), data)]
    names = list(dict.fromkeys(word.strip() for word in asked.split(",") if word.strip()))
    if len(names) > 1 and overrides:
        raise UserError(f"'{overrides[0]}' for several domains at once; name one: --perplexity {names[0]}")
    return [_named(domain, overrides) for domain in names]


def known_domains() -> dict[str, str]:
    """Each domain's file, the user's own before ours."""
    files = [path for folder in reversed(config_folders()) for path in (folder / "domain").glob("*.yaml")]
    return {path.stem: str(path) for path in files}


def _named(name: str, overrides: Sequence[str]) -> Domain:
    files = known_domains()
    if name not in files:
        fix = "your own text: --perplexity data=files 'data.paths=[texts/*.txt]'"
        raise UserError(f"unknown domain '{name}'; {nearest(name, files)}; {fix}")
    if any(override.startswith("data=") for override in overrides):
        return Domain(name, _compose(overrides))
    settings = read_mapping(Path(files[name]), "a domain is a mapping of data settings, for example `source: hub`")
    own_text = settings.get("paths") or any(override.startswith("data.paths=") for override in overrides)
    if settings.get("source") == "files" and not own_text:
        fix = f"--perplexity {name} data=files 'data.paths=[texts/*.jsonl]'"
        raise UserError(f"no public set of the domain '{name}' is known; take your own text: {fix}")
    return Domain(name, _compose([*(f"data.{key}={_written(value)}" for key, value in settings.items()), *overrides]))


def _written(value: Any) -> str:
    """A setting's value in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(_written(entry) for entry in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(entry)}" for key, entry in value.items()) + "}"
    return quoted(value)


def _compose(overrides: Sequence[str]) -> DataConfig:
    if other := [word for word in overrides if not re.match(r"\+?data[.=]", word)]:
        raise UserError(f"'{other[0]}' is no data setting; --perplexity takes data=NAME and data.KEY=VALUE")
    return compose(overrides).data


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", name):
        raise UserError(f"--name {name}: letters, digits, and . _ - between them, for example --name books")
    return name


def domain_perplexity(
    trained: Trained, domain: Domain, max_tokens: int, batch_size: int, progress: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """A run's mean loss on a domain: what ``evaluations/perplexity-<domain>.json`` holds.

    The text in the run's own tokens, an end of text after every document, in windows of the run's context one after the
    other, as in its validation: so losses per token compare only runs with one tokenizer, bits per byte any.
    ``max_tokens``: read no further than the document that reaches them. Raises UserError where the text is too short.
    """
    source = open_source(domain.data)
    tokens, n_bytes, n_documents = _tokens(_held_out(source, domain, trained), trained.tokenizer, max_tokens)
    length, n_windows = trained.max_len, (len(tokens) - 1) // trained.max_len
    if n_windows < 1:
        raise UserError(f"domain '{domain.name}' has {len(tokens)} tokens; this run's context needs {length + 1}")
    bytes_per_token = n_bytes / len(tokens)
    stacked = np.stack([tokens[w * length : (w + 1) * length + 1] for w in range(n_windows)])
    total = 0.0
    for windows in torch.from_numpy(stacked).split(16 * batch_size):
        total += len(windows) * mean_loss(trained.network, windows, batch_size, trained.hardware.autocast())
        if progress:
            progress(len(windows) * length)
    loss = total / n_windows
    if not math.isfinite(loss):
        raise UserError(f"the loss of {trained.run_dir} on '{domain.name}' is not finite")
    return {
        "domain": domain.name,
        "loss": loss,
        "perplexity": math.exp(loss) if loss < 700 else None,
        "bits_per_byte": loss / math.log(2) / bytes_per_token,
        "tokens": n_windows * length,
        "documents": n_documents,
        "bytes_per_token": bytes_per_token,
        "max_tokens": max_tokens,
        "text": domain.text,
        "origin": dict(source.origin),
    }


def _held_out(source: Source, domain: Domain, trained: Trained) -> Iterator[str]:
    """The text to predict: a source's own validation text; of what the run was trained on, what was held out of it; of
    anything else, all."""
    own, asked = trained.config.data, domain.data
    learned, read = _train_files(own), _train_files(asked)
    same_files = bool(learned) and learned == read and not own.val_paths and not asked.val_paths
    if Domain("", own).text == domain.text or same_files:
        return (text for split, text in split_source(source, own) if split == "val")
    if not asked.val_paths and (seen := learned & read):
        raise UserError(f"{trained.run_dir} was trained on {min(seen)}: a loss there says nothing; leave it out")
    return limited(source.val() or source.train(), asked.max_bytes)


def _train_files(data: DataConfig) -> set[Path]:
    """The files that a configuration trains on, as far as they are still there."""
    try:
        return {path.resolve() for path in find_files(data.paths, "")} - {
            path.resolve() for path in find_files(data.val_paths, "")
        }
    except UserError:
        return set()


def _tokens(documents: Iterator[str], tokenizer: Tokenizer, at_most: int) -> tuple[np.ndarray, int, int]:
    """Tokens (n,) int64, the bytes of UTF-8 and the number of documents that they are of."""
    parts, n_bytes, n_tokens, n_documents = [], 0, 0, 0
    end = np.array([tokenizer.end_of_text], dtype=np.int64)
    for text in documents:
        found = [*tokenizer.encode_batch(list(pieces(text))), end]
        parts += found
        n_documents += 1
        n_bytes += len(text.encode())
        n_tokens += sum(map(len, found))
        if n_tokens > at_most:
            break
    tokens = np.concatenate([np.empty(0, dtype=np.int64), *parts], dtype=np.int64)
    # The bytes of tokens that are not looked at go with them, in proportion.
    seen = tokens[: at_most + 1]
    return seen, round(n_bytes * len(seen) / max(len(tokens), 1)), n_documents
