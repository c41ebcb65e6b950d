from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normlab.config.schema import DataConfig
from normlab.data import describe, prepare
from normlab.data.cache import cache_folder, locked, request_key
from normlab.data.sources import open_source
from normlab.errors import UserError

WORDS = ["norm", "pre", "post", "hybrid", "residual", "gain", "scale", "depth", "query", "key", "value"]


def write_texts(folder: Path, n: int = 30) -> None:
    """Documents of a few hundred words, and one that is long enough to be encoded in pieces."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for i in range(n):
        words = rng.choice(WORDS, size=40_000 if i == 3 else 300)
        lines = [" ".join(words[j : j + 9]) for j in range(0, len(words), 9)]
        (folder / f"{i:02}.txt").write_text("\n".join(lines) + f"\nnumber {i}, café\n")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    write_texts(tmp_path / "texts")
    return tmp_path / "texts"


def config(texts: Path, **changes: Any) -> DataConfig:
    plain: dict[str, Any] = {
        "source": "files",
        "paths": [f"{texts}/*.txt"],
        "cache_dir": str(texts.parent / "cache"),
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
    }
    return DataConfig(**{**plain, **changes})


def test_tokens_are_the_documents_each_followed_by_an_end_of_text(texts: Path) -> None:
    prepared = prepare(config(texts))
    tokenizer = prepared.load_tokenizer()
    documents = []
    for file in (prepared.train, prepared.val):
        ends = np.append(file.document_starts[1:], len(file)).astype(int)
        assert (file.tokens[ends - 1] == prepared.end_of_text).all()
        assert (file.tokens == prepared.end_of_text).sum() == file.n_documents
        spans = zip(file.document_starts.astype(int), ends - 1, strict=True)
        documents += [tokenizer.decode(file.tokens[first:last].tolist()) for first, last in spans]
    assert sorted(documents) == sorted(path.read_text() for path in texts.glob("*.txt"))
    assert prepared.train.n_documents > prepared.val.n_documents >= 1


def test_numbers_of_the_prepared_data(texts: Path) -> None:
    prepared = prepare(config(texts, tokenizer={"kind": "bytes"}))
    counts = np.bincount(prepared.train.tokens, minlength=257) + 1
    expected = -np.mean(np.log((counts / counts.sum())[prepared.val.tokens]))
    assert prepared.unigram_ce == pytest.approx(expected, rel=1e-9)
    n_end = prepared.val.n_documents
    assert prepared.bytes_per_token == pytest.approx((prepared.val_tokens - n_end) / prepared.val_tokens)
    assert prepared.summary() == {
        "fingerprint": prepared.folder.name,
        "tokenizer": "bytes",
        "vocab_size": 257,
        "train_tokens": len(prepared.train),
        "val_tokens": len(prepared.val),
        "ln_vocab": math.log(257),
        "bytes_per_token": prepared.bytes_per_token,
    }
    assert "vocabulary 257" in describe(prepared)


def test_the_second_time_it_is_found_without_reading_a_text(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(config(texts))
    monkeypatch.setattr("normlab.data.sources.read_documents", None)
    second = prepare(config(texts, name="other", workers=1))
    assert (first.cached, second.cached) == (False, True)
    assert second.summary() == first.summary() and second.folder == first.folder
    assert sorted(p.name for p in first.folder.iterdir()) == [
        "meta.json",
        "tokenizer.json",
        "train.tokens",
        "val.tokens",
    ]
    assert not list(first.folder.parent.glob(".building*"))


def test_the_fingerprint_follows_the_content(texts: Path) -> None:
    first = prepare(config(texts))
    os.utime(texts / "00.txt", (1, 1))
    touched = prepare(config(texts))
    assert not touched.cached and touched.fingerprint == first.fingerprint
    (texts / "00.txt").write_text("another text altogether")
    others = [prepare(config(texts))]
    others += [prepare(config(texts, **change)) for change in (
        {"val_fraction": 0.5}, {"max_bytes": 5000}, {"tokenizer": {"kind": "bpe", "vocab_size": 310}},
        {"tokenizer": {"kind": "bytes"}}, {"val_paths": [f"{texts}/01.txt"]},
    )]  # fmt: skip
    assert len({p.fingerprint for p in [first, *others]}) == 7
    assert others[2].train.n_bytes + others[2].val.n_bytes <= 5000


def test_validation_files_of_ones_own(texts: Path) -> None:
    prepared = prepare(config(texts, val_paths=[f"{texts}/0[0-2].txt"]))
    assert (prepared.train.n_documents, prepared.val.n_documents) == (27, 3)


def test_a_single_text_is_trained_on_at_its_start_and_validated_on_at_its_end(texts: Path) -> None:
    prepared = prepare(config(texts, paths=[f"{texts}/05.txt"], val_fraction=0.25))
    tokenizer = prepared.load_tokenizer()
    start, end = (tokenizer.decode(f.tokens[:-1].tolist()) for f in (prepared.train, prepared.val))
    assert start + end == (texts / "05.txt").read_text() and 3 * len(end) == pytest.approx(len(start), abs=4)


PREPARE = """
import json, sys
from normlab.config.schema import DataConfig
from normlab.data import prepare
print(prepare(DataConfig.model_validate_json(sys.argv[1])).cached)
print([name for name in ("torch", "datasets", "tokenizers", "wandb") if name in sys.modules])
"""


def start(data: DataConfig) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, data.model_dump_json()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_number_of_workers_changes_nothing(texts: Path) -> None:
    contents = []
    for workers in (1, 2):
        cache = texts.parent / f"cache{workers}"
        process = start(config(texts, workers=workers, cache_dir=str(cache)))
        assert process.communicate()[0].startswith("False"), process.stderr
        contents.append({p.relative_to(cache): p.read_bytes() for p in cache.glob("*/*") if p.suffix != ".lock"})
    # The settings, workers apart, are the same: so are the names of the requests.
    assert len(contents[0]) == 5 and contents[0] == contents[1]


def test_two_processes_at_once_build_once_and_the_cached_way_is_light(texts: Path) -> None:
    outputs = [process.communicate() for process in [start(config(texts)) for _ in range(2)]]
    answers = sorted(stdout.splitlines()[0] for stdout, _ in outputs)
    assert answers == ["False", "True"], outputs
    assert "True\n[]\n" in [stdout for stdout, _ in outputs]


def test_the_second_process_says_that_it_waits(texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = config(texts)
    lock = cache_folder(data) / "requests" / f"{request_key(data, open_source(data))}.lock"
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(prepare(data).cached))
    with locked(lock, "tests"):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join()
    assert answers == [False]
    assert "waiting for another process that prepares the same data" in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["cut", "flip", "swap", "meta", "tokenizer"])
def test_damage_is_noticed_and_mended(texts: Path, harm: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = prepare(config(texts))
    whole = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    tokens = first.folder / "train.tokens"
    match harm:
        case "cut":
            tokens.write_bytes(whole["train.tokens"][:-100])
        case "flip":
            tokens.write_bytes(whole["train.tokens"][:-1] + b"\x55")
        case "swap":
            tokens.write_bytes(whole["val.tokens"])
        case "meta":
            (first.folder / "meta.json").unlink()
        case "tokenizer":
            (first.folder / "tokenizer.json").write_text("{}")
    again = prepare(config(texts))
    assert not again.cached and again.fingerprint == first.fingerprint
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == whole
    warning = capsys.readouterr().err
    assert warning.startswith("warning: ") and warning.endswith("; building it again\n")
    assert prepare(config(texts)).cached


def test_what_a_killed_process_left_is_cleared(texts: Path) -> None:
    data = config(texts)
    left = cache_folder(data) / f".building-{request_key(data, open_source(data))}"
    left.mkdir()
    (left / "train.tokens").write_bytes(b"half")
    assert prepare(data).train.n_documents > 1
    assert not left.exists()


def test_a_full_disk(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    data = config(texts)
    with monkeypatch.context() as patched, pytest.raises(UserError) as error:
        patched.setattr("os.fsync", full)
        prepare(data)
    assert f"the disk of {data.cache_dir} is full" in str(error.value) and "data.cache_dir" in str(error.value)
    assert [path.name for path in Path(str(data.cache_dir)).iterdir()] == ["requests"]
    assert not prepare(data).cached


def test_a_cache_that_cannot_be_made(texts: Path) -> None:
    (texts.parent / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make .*file/cache.*; set data.cache_dir or NORMLAB_CACHE"):
        prepare(config(texts, cache_dir=str(texts.parent / "file" / "cache")))


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NORMLAB_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder(DataConfig()) == tmp_path / ".cache/normlab/data"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(DataConfig()) == tmp_path / "xdg/normlab/data"
    monkeypatch.setenv("NORMLAB_CACHE", str(tmp_path / "own"))
    assert cache_folder(DataConfig()) == tmp_path / "own/data"
    assert cache_folder(DataConfig(cache_dir="~/here")) == tmp_path / "here"


def test_the_standard_library_up_to_a_bound(tmp_path: Path) -> None:
    data = DataConfig(max_bytes=300_000, cache_dir=str(tmp_path), tokenizer={"kind": "bytes"})
    prepared = prepare(data)
    assert 290_000 < prepared.train.n_bytes + prepared.val.n_bytes <= 300_000
    assert json.loads((prepared.folder / "meta.json").read_text())["origin"]["python"]
    assert prepare(data).cached
