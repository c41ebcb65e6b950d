from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from normlab.data.tokenfile import DamagedTokenFile, TokenFile, TokenWriter


def write(path: Path, documents: list[list[int]], vocab_size: int = 300) -> Path:
    with TokenWriter(path, vocab_size) as writer:
        for document in documents:
            writer.begin_document()
            writer.write(np.array(document, dtype=writer.dtype), n_bytes=2 * len(document))
        writer.finish({"tokenizer": "toy"})
    return path


@pytest.mark.parametrize(("vocab_size", "dtype"), [(257, "uint16"), (65536, "uint16"), (65537, "uint32")])
def test_what_was_written_is_read(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    path = write(tmp_path / "a.tokens", [[1, 2, 3], [vocab_size - 1], [5, 6, 7]], vocab_size)
    file = TokenFile(path)
    assert file.tokens.dtype == dtype and len(file) == 7
    assert file.tokens.tolist() == [1, 2, 3, vocab_size - 1, 5, 6, 7]
    assert file.document_starts.tolist() == [0, 3, 4]
    assert (file.vocab_size, file.n_documents, file.n_bytes) == (vocab_size, 3, 14)
    assert file.metadata["tokenizer"] == "toy"


def test_the_tokens_cannot_be_written_to(tmp_path: Path) -> None:
    file = TokenFile(write(tmp_path / "a.tokens", [[1, 2, 3]]))
    with pytest.raises(ValueError):
        file.tokens[0] = 9


def test_tokens_are_counted(tmp_path: Path) -> None:
    with TokenWriter(tmp_path / "a", 300) as writer:
        writer.begin_document()
        writer.write(np.array([7, 7, 299], dtype=np.uint16), 3)
        writer.finish({})
    assert writer.counts.sum() == 3 and writer.counts[7] == 2 and writer.counts[299] == 1


@pytest.mark.parametrize("cut", [0, 10, 4096, 4099, -1])
def test_a_cut_file_is_noticed(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.tokens", [[1, 2, 3]] * 50)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedTokenFile, match=r"a\.tokens is damaged .*; delete its folder"):
        TokenFile(path, verify=False)


def test_a_file_that_was_never_finished_is_noticed(tmp_path: Path) -> None:
    with TokenWriter(tmp_path / "a", 300) as writer:
        writer.begin_document()
        writer.write(np.arange(9), 9)
    with pytest.raises(DamagedTokenFile):
        TokenFile(tmp_path / "a")


@pytest.mark.parametrize("at", [4096, 4200, -1])
def test_a_flipped_bit_is_noticed_where_the_checksum_is_looked_at(tmp_path: Path, at: int) -> None:
    path = write(tmp_path / "a.tokens", [[1, 2, 3]] * 50)
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    TokenFile(path, verify=False)
    for verify in (True, None):  # None: small files are always checked
        with pytest.raises(DamagedTokenFile, match="checksum"):
            TokenFile(path, verify)


def test_a_file_that_is_not_ours_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 9000)
    for name in ("a", "b"):
        with pytest.raises(DamagedTokenFile):
            TokenFile(tmp_path / name)
