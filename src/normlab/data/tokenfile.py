"""Tokens on disk, read by mapping them into memory.

offset 0     magic "NORMLABT", version, bytes per token, tokens, documents, vocabulary, SHA-256 of what
             follows the header, then JSON with what the tokens are of; zeros up to 4096
offset 4096  the tokens, uint16 or uint32, little-endian; zeros up to a multiple of 8
then         where each document starts, in tokens, uint64
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from normlab.data.tokenizer import token_dtype
from normlab.errors import UserError

_MAGIC = b"NORMLABT"
_VERSION = 1
_FIELDS = struct.Struct("<8sIIQQQ32sI")  # the last is the length of the JSON
_HEADER = 4096
_WRITE_AT_ONCE = 2**20  # tokens; documents can be much shorter than what is worth a system call
_SMALL = 64 * 2**20  # bytes; hashing this much takes less than a tenth of a second


class DamagedTokenFile(UserError):
    """The file is cut, altered or not ours."""

    def __init__(self, path: Path, problem: str):
        super().__init__(f"{path} is damaged ({problem}); delete its folder and it is built again from the text")


class TokenFile:
    """An open token file.

    ``tokens``: (n_tokens,) uint16 or uint32, read-only, mapped. ``document_starts``: (n_documents,) uint64.
    ``verify``: True: check the SHA-256; False: only the size; None: the SHA-256 of a small file. The header's own,
    ``header_sha256``, stands in meta.json. Raises DamagedTokenFile.
    """

    def __init__(self, path: Path, verify: bool | None = None):
        self.path = Path(path)
        try:
            with self.path.open("rb") as stream:
                self._read_header(stream.read(_HEADER))
                size = os.fstat(stream.fileno()).st_size
                if size != self._expected_size():
                    raise DamagedTokenFile(self.path, f"{size} bytes instead of {self._expected_size()}")
                if verify or (verify is None and size <= _SMALL):
                    stream.seek(_HEADER)
                    if hashlib.file_digest(stream, "sha256").hexdigest() != self.sha256:
                        raise DamagedTokenFile(self.path, "the checksum differs")
        except OSError as error:
            raise DamagedTokenFile(self.path, error.strerror or str(error)) from None
        self.tokens = np.memmap(self.path, token_dtype(self.vocab_size), "r", _HEADER, shape=(self.n_tokens,))
        self.document_starts = np.memmap(
            self.path, "<u8", "r", _HEADER + _padded(self._token_bytes()), shape=(self.n_documents,)
        )

    def __len__(self) -> int:
        return self.n_tokens

    @property
    def n_bytes(self) -> int:
        """Bytes of UTF-8 that the tokens came from."""
        return int(self.metadata["n_bytes"])

    def _read_header(self, raw: bytes) -> None:
        if len(raw) < _HEADER or not raw.startswith(_MAGIC):
            raise DamagedTokenFile(self.path, "no header of a token file")
        self.header_sha256 = hashlib.sha256(raw).hexdigest()
        fields = _FIELDS.unpack_from(raw)
        version, itemsize, self.n_tokens, self.n_documents, self.vocab_size, digest, json_length = fields[1:]
        if version != _VERSION or itemsize != token_dtype(self.vocab_size).itemsize or not self.n_tokens:
            raise DamagedTokenFile(self.path, "its header does not add up")
        self.sha256 = digest.hex()
        try:
            self.metadata: dict[str, Any] = json.loads(raw[_FIELDS.size : _FIELDS.size + json_length])
        except ValueError:
            raise DamagedTokenFile(self.path, "its header does not add up") from None

    def _token_bytes(self) -> int:
        return self.n_tokens * token_dtype(self.vocab_size).itemsize

    def _expected_size(self) -> int:
        return _HEADER + _padded(self._token_bytes()) + 8 * self.n_documents


class TokenWriter:
    """Writes a token file front to back; the header comes last, so that a cut file has none.

    ``counts``: (vocab_size,) how often each token was written, for the unigram distribution; whole after
    ``finish``, as are ``sha256`` and ``header_sha256``.
    """

    def __init__(self, path: Path, vocab_size: int):
        self.vocab_size, self.dtype = vocab_size, token_dtype(vocab_size)
        self.n_tokens = self.n_bytes = 0
        self.counts = np.zeros(vocab_size, dtype=np.int64)
        self._starts: list[int] = []
        self._waiting: list[np.ndarray] = []
        self._n_waiting = 0
        self._digest = hashlib.sha256()
        self._stream = path.open("wb")
        self._stream.write(bytes(_HEADER))

    @property
    def n_documents(self) -> int:
        return len(self._starts)

    def begin_document(self) -> None:
        """The tokens that are written next start a document."""
        self._starts.append(self.n_tokens)

    def write(self, tokens: np.ndarray, n_bytes: int) -> None:
        """Append tokens, made of so many bytes of UTF-8, to the document that was begun last."""
        self._waiting.append(tokens)
        self.n_bytes += n_bytes
        self.n_tokens += len(tokens)
        self._n_waiting += len(tokens)
        if self._n_waiting >= _WRITE_AT_ONCE:
            self._write_waiting()

    def _write_waiting(self) -> None:
        joined = np.concatenate([np.empty(0, dtype=self.dtype), *self._waiting], dtype=self.dtype)
        self.counts += np.bincount(joined, minlength=self.vocab_size)
        self._put(joined.tobytes())
        self._waiting, self._n_waiting = [], 0

    def finish(self, metadata: dict[str, Any]) -> None:
        """Write the document starts and the header, and wait for the disk."""
        self._write_waiting()
        self._put(bytes(_padded(self.n_tokens * self.dtype.itemsize) - self.n_tokens * self.dtype.itemsize))
        self._put(np.array(self._starts, dtype="<u8").tobytes())
        text = json.dumps({**metadata, "n_bytes": self.n_bytes}).encode()
        sizes = (self.dtype.itemsize, self.n_tokens, self.n_documents, self.vocab_size)
        header = _FIELDS.pack(_MAGIC, _VERSION, *sizes, self._digest.digest(), len(text)) + text
        header = header.ljust(_HEADER, b"\0")
        self.header_sha256 = hashlib.sha256(header).hexdigest()
        self._stream.seek(0)
        self._stream.write(header)
        self._stream.flush()
        os.fsync(self._stream.fileno())

    @property
    def sha256(self) -> str:
        """The checksum of everything but the header."""
        return self._digest.hexdigest()

    def _put(self, raw: bytes) -> None:
        self._digest.update(raw)
        self._stream.write(raw)

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // 8) * 8
