"""Text and tokenizers from the Hugging Face hub; its errors in one line, no long wait without a network."""

from __future__ import annotations

import re
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normlab.config.schema import DataConfig
from normlab.data.text_files import missing_column, without_surrogates
from normlab.errors import UserError, nearest

_PROBE_SECONDS = 3.0
_ROWS_AT_ONCE = 256


class HubSource:
    """A data set of the hub, read by ``datasets``. No code of the data set is ever run."""

    n_bytes = None

    def __init__(self, config: DataConfig):
        self.config = config
        # What was prepared stays valid until data.hub_revision asks for another text.
        self.stamp: list[list[str | int]] = []
        self.hub_id = str(config.hub_id)
        self.origin = {"hub": self.hub_id, "config": config.hub_config or "default"}
        if config.val_split == config.split:
            raise UserError(
                f"data.val_split={config.val_split} is data.split itself; leave it null to hold out a share"
            )
        _check_id(self.hub_id, "data.hub_id", "Salesforce/wikitext")

    def train(self) -> Iterator[str]:
        return self._read(self.config.split)

    def val(self) -> Iterator[str] | None:
        return self._read(self.config.val_split) if self.config.val_split else None

    def _read(self, split: str) -> Iterator[str]:
        data, field = self._load(split), self.config.text_field
        columns = data.column_names or list(next(iter(data), {}))
        if field not in columns:
            raise UserError(missing_column(self.hub_id, field, columns))
        return self._rows(data.select_columns([field]).iter(batch_size=_ROWS_AT_ONCE))

    def _rows(self, batches: Iterator[dict[str, list[Any]]]) -> Iterator[str]:
        field = self.config.text_field
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except Exception as error:  # a lost connection, in any of the layers below
                raise UserError(f"reading {self.hub_id} stopped: {_one_line(error)}; run it again") from error
            for text in batch[field]:
                if not isinstance(text, str | None):
                    raise UserError(f"{self.hub_id}: '{field}' is {type(text).__name__}, not text")
                if text and not text.isspace():
                    yield str(without_surrogates(text))

    def _load(self, split: str) -> Any:
        """The split, as a datasets.Dataset or IterableDataset. Raises UserError for all that can go wrong."""
        offline = go_offline_if_unreachable()
        import datasets

        config, revision = self.config, self.config.hub_revision
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        if not offline:
            # All splits are read at one commit, which is written down with the tokens.
            revision = self.origin["commit"] = self.origin.get("commit") or self._resolve_commit()
        try:
            return datasets.load_dataset(
                self.hub_id, config.hub_config, split=split, revision=revision, streaming=config.streaming
            )
        except Exception as error:  # datasets raises a dozen kinds, some of them bare
            if offline and isinstance(error, OSError):
                raise UserError(_no_network(f"data set {self.hub_id}", "data=stdlib")) from error
            raise UserError(self._explain(error, split)) from error

    def _resolve_commit(self) -> str:
        from huggingface_hub import HfApi, errors

        revision = self.config.hub_revision
        try:
            return str(HfApi().dataset_info(self.hub_id, revision=revision, timeout=20).sha)
        except errors.GatedRepoError:
            raise UserError(f"{self.hub_id} is gated: accept its terms on {endpoint()}, then `hf auth login`") from None
        except errors.RevisionNotFoundError:
            raise UserError(
                f"{self.hub_id} has no data.hub_revision={revision}; leave it null for the newest"
            ) from None
        except errors.RepositoryNotFoundError:
            fix = "check data.hub_id, or `hf auth login` if it is private"
            raise UserError(f"no data set {self.hub_id} on {endpoint()}; {fix}") from None
        except Exception as error:
            raise UserError(f"{endpoint()} did not tell about {self.hub_id}: {_one_line(error)}") from error

    def _explain(self, error: Exception, split: str) -> str:
        text = _one_line(error)
        listed = re.findall(r"'([^']+)'", text.partition("[")[2].partition("]")[0])
        if "BuilderConfig" in text and listed:
            given = str(self.config.hub_config)
            return f"{self.hub_id} has no data.hub_config={given}; {nearest(given, listed)}"
        if "Config name is missing" in text and listed:
            return f"{self.hub_id} comes in several; set data.hub_config to one of {', '.join(listed[:20])}"
        if "split" in text and listed:
            return f"{self.hub_id} has no split '{split}'; {nearest(split, listed)}"
        if "scripts are no longer supported" in text:
            return f"{self.hub_id} is a script, which is not run; choose a copy of it in parquet"
        return f"data set {self.hub_id} could not be loaded: {text}"


def read_tokenizer_json(name: str) -> str:
    """The tokenizer.json of a model on the hub, from the local cache where it is there already."""
    from huggingface_hub import errors, hf_hub_download

    _check_id(name, "data.tokenizer.name", "openai-community/gpt2")
    offline = go_offline_if_unreachable()
    try:
        return Path(hf_hub_download(name, "tokenizer.json")).read_text(encoding="utf-8")
    except errors.RemoteEntryNotFoundError:
        raise UserError(f"{name} has no tokenizer.json; choose a model that has one") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"no model {name} on {endpoint()}; check data.tokenizer.name") from None
    except Exception as error:
        if offline:
            raise UserError(_no_network(f"tokenizer {name}", "data.tokenizer.kind=bpe")) from error
        raise UserError(f"tokenizer {name} could not be loaded: {_one_line(error)}") from error


def endpoint() -> str:
    """The hub's address: ``$HF_ENDPOINT`` or the official one."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def go_offline_if_unreachable() -> bool:
    """Whether the hub's libraries are to answer from their caches alone.

    They retry for half a minute where there is no network, so it is tried once here, and where that fails
    they are told for the rest of the process; `datasets` looks when it is first imported.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not _reachable(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
    return bool(constants.HF_HUB_OFFLINE)


def _reachable(url: str) -> bool:
    address = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(address.scheme)
    if proxy and not urllib.request.proxy_bypass(address.hostname or ""):
        address = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def _check_id(name: str, key: str, example: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"{key}={name}: the hub wants namespace/name, for example {example}")


def _no_network(what: str, instead: str) -> str:
    fix = f"set HF_ENDPOINT to a mirror or use {instead}"
    return f"no connection to {endpoint()} and no local copy of {what}; {fix}"


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
