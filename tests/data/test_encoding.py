from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from normlab.config.schema import DataConfig
from normlab.data import describe, prepare, tiktoken_bpe
from normlab.data.encoding import Encoder, in_threads
from normlab.data.tokenizer import ByteTokenizer


@pytest.mark.parametrize("workers", [1, 3, None])
def test_jobs_come_back_in_order_and_only_a_few_are_ahead(workers: int | None) -> None:
    begun: list[int] = []
    ahead = 2 * (workers or 8) + 1

    def jobs() -> Iterator[int]:
        for job in range(40):
            begun.append(job)
            yield job

    def work(job: int) -> int:
        time.sleep(0.001 * (job % 3))
        return job * job

    for n, (job, done) in enumerate(in_threads(work, jobs(), workers)):
        assert (job, done) == (n, n * n) and len(begun) <= n + 1 + ahead
    assert len(begun) == 40


def test_an_error_of_a_thread_or_of_the_text_is_the_callers() -> None:
    def fails(job: int) -> int:
        return 1 // job

    with pytest.raises(ZeroDivisionError):
        list(in_threads(fails, [1, 0, 1], 2))

    def text() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    threads = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        list(in_threads(fails, text(), 2))
    assert threading.active_count() == threads


def test_bytes_need_no_library() -> None:
    encoder = Encoder(ByteTokenizer(), ["é"])
    assert encoder.library == "numpy" and encoder.encode_batch(["é"])[0].tolist() == [0xC3, 0xA9]


def test_prepared_data_are_the_same_by_either_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"Line {i} of the text isn't   the last; café № {i * 37}\n\n" for i in range(6000)]
    (tmp_path / "a.txt").write_text("".join(lines[:4000]))  # long enough for pieces
    (tmp_path / "b.txt").write_text("".join(lines[4000:]))

    def prepared(name: str) -> dict[str, bytes]:
        plain = {"kind": "bpe", "vocab_size": 400}
        config = DataConfig(
            source="files", paths=[f"{tmp_path}/*.txt"], tokenizer=plain, cache_dir=f"{tmp_path}/{name}"
        )
        data = prepare(config)
        assert data.encoded_by.startswith(name) and f"encoded by {name}" in describe(data)
        assert prepare(config).encoded_by == data.encoded_by
        files = {path.name: path.read_bytes() for path in data.folder.iterdir() if path.name != "meta.json"}
        return files | {"fingerprint": data.fingerprint.encode()}

    fast = prepared("tiktoken")

    def refuse(self: tiktoken_bpe.TiktokenBPE, json_text: str) -> None:
        raise tiktoken_bpe.NotConvertible("not today")

    monkeypatch.setattr(tiktoken_bpe.TiktokenBPE, "__init__", refuse)
    assert prepared("tokenizers") == fast


def test_what_an_earlier_version_prepared_does_not_say_by_what(tmp_path: Path) -> None:
    config = DataConfig(max_bytes=20_000, cache_dir=str(tmp_path), tokenizer={"kind": "bytes"})
    data = prepare(config)
    meta = data.folder / "meta.json"
    said = json.loads(meta.read_text())
    del said["encoded_by"], said["checksum"]
    meta.write_text(json.dumps(said))
    old = prepare(config)
    assert old.cached and old.encoded_by == "tokenizers"
