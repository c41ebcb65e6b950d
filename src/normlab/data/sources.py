"""A source of text: documents to train on and, where the source has its own, documents to validate on."""

from __future__ import annotations

import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from normlab.config.schema import DataConfig
from normlab.data.text_files import find_files, read_documents
from normlab.errors import UserError

# Tests are data for an interpreter, not prose for a model; site-packages and the build's own folder
# (config-3.11-x86_64-linux-gnu) differ from machine to machine.
_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_BUILD_FILES = ("config-", "_sysconfigdata")


class Source(Protocol):
    """Text, read in a fixed order."""

    @property
    def stamp(self) -> list[list[str | int]]:
        """Changes when the text may have changed; found without reading it."""

    @property
    def n_bytes(self) -> int | None:
        """Bytes of UTF-8 in all, where that is known without reading."""

    @property
    def origin(self) -> dict[str, str]:
        """Provenance to write down beside the tokens; complete once the text has been read."""

    def train(self) -> Iterator[str]:
        """The documents to train on."""

    def val(self) -> Iterator[str] | None:
        """The documents to validate on; None: a share of the train documents is held out."""


class FileSource:
    """Texts in files, or the standard library's modules."""

    def __init__(self, paths: list[Path], val_paths: list[Path], field: str, origin: dict[str, str]):
        self.paths, self.val_paths, self.field, self.origin = paths, val_paths, field, origin

    @property
    def stamp(self) -> list[list[str | int]]:
        stats = [(path, path.stat()) for path in [*self.paths, *self.val_paths]]
        return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats]

    @property
    def n_bytes(self) -> int | None:
        paths = [*self.paths, *self.val_paths]
        return None if any(p.suffix == ".parquet" for p in paths) else sum(p.stat().st_size for p in paths)

    def train(self) -> Iterator[str]:
        return self._read(self.paths)

    def val(self) -> Iterator[str] | None:
        return self._read(self.val_paths) if self.val_paths else None

    def _read(self, paths: list[Path]) -> Iterator[str]:
        for path in paths:
            yield from read_documents(path, self.field)


def open_source(config: DataConfig) -> Source:
    """The source that a configuration names. Touches the file system, never the network."""
    match config.source:
        case "stdlib":
            return FileSource(stdlib_files(), [], "", {"python": platform.python_version()})
        case "files":
            val_paths = find_files(config.val_paths, "data.val_paths")
            # A file named for validation is never trained on, so `paths: [*.txt]` needs no exception.
            paths = [path for path in find_files(config.paths, "data.paths") if path not in val_paths]
            if not paths:
                raise UserError("every file of data.paths is also in data.val_paths: nothing is left to train on")
            return FileSource(paths, val_paths, config.text_field, {"files": str(len(paths) + len(val_paths))})
        case _:
            from normlab.data.hub import HubSource

            return HubSource(config)


def stdlib_files() -> list[Path]:
    """The modules of the running Python's standard library, sorted: about 12 MB of real text on any
    machine.
    """
    root = sysconfig.get_path("stdlib")
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [s for s in subfolders if s not in _SKIPPED_FOLDERS and not s.startswith(_BUILD_FILES)]
        modules = [name for name in names if name.endswith(".py") and not name.startswith(_BUILD_FILES)]
        found += [Path(folder, name) for name in modules]
    # An empty __init__.py is no document.
    return sorted(path for path in found if path.stat().st_size > 0)
