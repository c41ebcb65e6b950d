"""Documents out of files: a .txt is one document, every row of a .jsonl or a .parquet is one."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from pathlib import Path

from normlab.errors import UserError, nearest

SUFFIXES = (".txt", ".jsonl", ".parquet")
_SUPPORTED = ", ".join(SUFFIXES)


def find_files(patterns: list[str], key: str) -> list[Path]:
    """Paths and globs (``~`` and ``**`` allowed) as existing files: in the order given, a glob's matches
    sorted.

    ``key`` is the configuration key that the patterns come from, for the error line.
    """
    found: dict[Path, None] = {}  # a file that two patterns match is read once
    for pattern in patterns:
        expanded = os.path.expanduser(pattern)
        # A file whose name holds brackets is itself before it is a glob.
        matches = [expanded] if os.path.isfile(expanded) else sorted(glob.glob(expanded, recursive=True))
        files = [Path(match).absolute() for match in matches if os.path.isfile(match)]
        if not files:
            raise UserError(_no_match(pattern, expanded, key))
        for path in files:
            if path.suffix not in SUFFIXES:
                raise UserError(f"{key}: {path} is neither of {_SUPPORTED}; convert it or narrow the pattern")
        found.update(dict.fromkeys(files))
    return list(found)


def _no_match(pattern: str, expanded: str, key: str) -> str:
    """What a pattern that matches nothing may have meant."""
    if os.path.isdir(expanded):
        example = f"{key}=[{pattern.rstrip('/')}/*.txt]"
        return f"{key}: '{pattern}' is a folder; name the files in it, for example {example}"
    folder = Path(expanded).parent
    missing = Path(expanded)
    while not folder.is_dir():
        folder, missing = folder.parent, folder
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() or entry.suffix in SUFFIXES]
    return f"{key}: nothing matches '{pattern}'; in {folder}: {nearest(missing.name, names)}"


def read_documents(path: Path, field: str) -> Iterator[str]:
    """The documents of one file. Rows without text are left out; a file without any text is an error."""
    readers = {".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    try:
        if path.suffix in readers:
            texts = readers[path.suffix](path, field)
        else:
            texts = iter([_decode(path.read_bytes(), path, 0)])
        rows = (text for text in texts if text and not text.isspace())
        first = next(rows, None)
        if first is None:
            raise UserError(f"{path} holds no text; take it out of data.paths")
        yield first
        yield from rows
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _decode(raw: bytes, path: Path, offset: int) -> str:
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at = offset + error.start
        fix = f"convert it, for example: iconv -f latin1 -t utf-8 '{path.name}'"
        raise UserError(f"{path} is not UTF-8 at byte {at}; {fix}") from None


def _jsonl_rows(path: Path, field: str) -> Iterator[str | None]:
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            if line.strip():
                try:
                    row = json.loads(_decode(line, path, offset))
                except json.JSONDecodeError as error:
                    raise UserError(f"{where}: not JSON: {error.msg}; each line holds one object") from None
                if not isinstance(row, dict):
                    raise UserError(f'{where}: a row is an object such as {{"{field}": "..."}}')
                if field not in row:
                    raise UserError(missing_column(where, field, list(row)))
                if not isinstance(row[field], str | None):
                    raise UserError(f"{where}: '{field}' is {type(row[field]).__name__}, not text")
                yield without_surrogates(row[field])
            offset += len(line)


def _parquet_rows(path: Path, field: str) -> Iterator[str | None]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        names = table.schema_arrow.names
        if field not in names:
            raise UserError(missing_column(str(path), field, names))
        kind = table.schema_arrow.field(field).type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
            raise UserError(f"{path}: column '{field}' is {kind}, not text")
        for batch in table.iter_batches(batch_size=256, columns=[field]):
            yield from batch.column(0).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path} is not a readable parquet file: {str(error).splitlines()[0]}") from None


def missing_column(where: str, field: str, columns: list[str]) -> str:
    """The error line for a text column that is not there."""
    return f"{where}: no column data.text_field='{field}'; {nearest(field, columns)}"


def without_surrogates(text: str | None) -> str | None:
    """JSON can spell half of a surrogate pair, which no UTF-8 text holds; it becomes a question mark."""
    return text if text is None or text.isascii() else text.encode("utf-8", "replace").decode()
