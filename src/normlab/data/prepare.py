"""Text to token files, once: found again by what was asked for, named by what came out.

<cache>/requests/<key>.json   the settings and the files' sizes and times -> fingerprint
<cache>/<fingerprint>/        train.tokens, val.tokens, tokenizer.json, meta.json
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path

from normlab.config.schema import DataConfig
from normlab.data.build import build
from normlab.data.cache import cache_folder, locked, request_key
from normlab.data.prepared import Prepared, open_prepared
from normlab.data.sources import open_source
from normlab.errors import UserError
from normlab.files import sync_folder, write_json


def prepare(config: DataConfig, progress: bool = True) -> Prepared:
    """The tokens of a data configuration, from the cache or built now.

    Several processes may ask for the same at once: one builds, the others wait for it. ``config.workers``
    is the number of threads that tokenize (the first call of a process decides); the tokens do not depend
    on it. Damaged files are built again, with a warning. Raises UserError for wrong paths, columns and ids,
    for text that cannot be read, without a network where one is needed, and for a full disk.
    """
    source = open_source(config)
    cache = cache_folder(config)
    key = request_key(config, source)
    request = cache / "requests" / f"{key}.json"
    if found := _find(cache, request):
        return found
    if config.workers:
        os.environ["RAYON_NUM_THREADS"] = str(config.workers)  # the tokenizers library reads it at its first use
    building = cache / f".building-{key}"
    try:
        with locked(request.with_suffix(".lock"), "prepares the same data"):
            if found := _find(cache, request):
                return found
            shutil.rmtree(building, ignore_errors=True)  # what a killed process left behind
            building.mkdir()
            try:
                fingerprint = build(config, source, building, progress)
                # Two requests, such as a file before and after `touch`, may come to the same folder.
                with locked(cache / "requests" / "publish.lock", "stores its tokens"):
                    _publish(building, cache / fingerprint)
            finally:
                shutil.rmtree(building, ignore_errors=True)
            write_json(request, {"fingerprint": fingerprint})
        return open_prepared(cache / fingerprint, cached=False)
    except OSError as error:
        raise UserError(_explain(error, cache)) from error


def _find(cache: Path, request: Path) -> Prepared | None:
    """What an earlier call prepared; None, with a warning where it is damaged, if it has to be built."""
    try:
        folder = cache / json.loads(request.read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not folder.is_dir():
        return None
    try:
        return open_prepared(folder, cached=True)
    except UserError as error:
        print(f"warning: {str(error).partition(';')[0]}; building it again", file=sys.stderr, flush=True)
        return None


def _publish(building: Path, folder: Path) -> None:
    """Give the finished folder its name. One that is there already and whole stays: somebody may be reading
    it.
    """
    try:
        open_prepared(folder, cached=True)
        return
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)
    sync_folder(folder.parent)


def _explain(error: OSError, cache: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {cache} is full; free some space or set data.cache_dir to a folder on another disk"
    fix = "set data.cache_dir or NORMLAB_CACHE to a folder that can be written"
    return f"cannot prepare data in {error.filename or cache}: {error.strerror or error}; {fix}"
