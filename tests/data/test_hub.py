"""The hub end to end: the real ``datasets`` and ``huggingface_hub`` against a stand-in on the loopback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_stand_in import COMMIT, HubStandIn

from normlab.config.schema import DataConfig, TokenizerConfig
from normlab.data.tokenizer import train_bpe
from normlab.errors import UserError

TRAIN = [f"document {i} about norms" for i in range(50)] + ["", "  "]
VAL = [f"held out {i}" for i in range(9)]

# Prepares each configuration given, and prints what came of it as one JSON list.
CODE = """
import json, sys
from normlab.config.schema import DataConfig
from normlab.data import prepare, vocab_size_of
from normlab.errors import UserError
answers = []
for plain in json.loads(sys.argv[1]):
    try:
        p = prepare(DataConfig(source="hub", **plain))
        size = vocab_size_of(DataConfig(source="hub", **plain))
        val = p.load_tokenizer().decode(p.val.tokens.tolist())
        answers.append([p.train.n_documents, p.val.n_documents, p.origin, p.cached, val, p.tokenizer, size])
    except UserError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


def parquet(texts: list[str]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "id": list(range(len(texts)))}), stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubStandIn]:
    card = "---\nconfigs:\n" + "".join(f"- {{config_name: {n}, data_files: {n[0]}/*}}\n" for n in ("alpha", "beta"))
    tokenizer = train_bpe(TRAIN, TokenizerConfig(vocab_size=300)).to_json()
    datasets = {
        "lab/texts": {
            "data/train-00000-of-00001.parquet": parquet(TRAIN),
            "data/validation-00000-of-00001.parquet": parquet(VAL),
        },
        "lab/two": {
            "README.md": f"{card}---\n".encode(),
            "a/train.parquet": parquet(TRAIN),
            "b/train.parquet": parquet(VAL),
        },
        "lab/script": {"script.py": b"raise SystemExit('code of a data set must not run')"},
    }
    models = {"lab/model": {"tokenizer.json": str(tokenizer).encode()}, "lab/bare": {"config.json": b"{}"}}
    with HubStandIn(datasets, models) as server:
        yield server


def ask(endpoint: str, home: Path, *plain: dict[str, Any]) -> list[Any]:
    bytes_ = {"tokenizer": {"kind": "bytes"}, "cache_dir": str(home / "cache")}
    configs = json.dumps([{**bytes_, **config} for config in plain])
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "NO_PROXY": "127.0.0.1"}
    run = subprocess.run([sys.executable, "-c", CODE, configs], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_mapped_streamed_and_then_without_a_network(hub: HubStandIn, tmp_path: Path) -> None:
    whole = {"hub_id": "lab/texts", "val_split": "validation"}
    mapped, streamed, part = ask(
        hub.url,
        tmp_path,
        whole,
        {**whole, "streaming": True},
        {"hub_id": "lab/texts", "streaming": True, "max_bytes": 1000},
    )
    origin = {"hub": "lab/texts", "config": "default", "commit": COMMIT}
    expected = [50, 9, origin, False, "".join(f"{text}<|endoftext|>" for text in VAL), "bytes", 257]
    assert mapped == expected and streamed == expected
    assert part[0] + part[1] == 44  # 1000 bytes of texts of 22 to 23

    unused = "http://127.0.0.1:9"  # nothing listens there
    found, from_library_cache, absent = ask(
        unused, tmp_path, whole, {**whole, "split": "train[:10]"}, {"hub_id": "lab/new"}
    )
    assert found == [*expected[:3], True, *expected[4:]]
    assert from_library_cache[0] == 10
    assert absent.startswith(f"no connection to {unused} and no local copy of data set lab/new; set HF_ENDPOINT")
    assert "data=stdlib" in absent


def test_a_tokenizer_of_the_hub(hub: HubStandIn, tmp_path: Path) -> None:
    def with_tokenizer(name: str) -> dict[str, Any]:
        return {"hub_id": "lab/two", "hub_config": "beta", "tokenizer": {"kind": "hub", "name": name}}

    good, absent, bare, short = ask(
        hub.url, tmp_path, *map(with_tokenizer, ("lab/model", "lab/none", "lab/bare", "gpt2"))
    )
    assert good[5] == "hub:lab/model" and 257 <= good[6] <= 300
    assert absent == f"no model lab/none on {hub.url}; check data.tokenizer.name"
    assert bare.startswith("lab/bare has no tokenizer.json")
    assert "for example openai-community/gpt2" in short


MISTAKES = [
    ({"hub_id": "lab/txts"}, "no data set lab/txts on http://127.0.0.1"),
    ({"hub_id": "wikitext"}, "the hub wants namespace/name, for example Salesforce/wikitext"),
    ({"hub_id": "lab/texts", "hub_revision": "v9"}, "has no data.hub_revision=v9"),
    ({"hub_id": "lab/texts", "split": "trian"}, "has no split 'trian'; did you mean 'train'?"),
    ({"hub_id": "lab/texts", "val_split": "valid", "streaming": True}, "did you mean 'validation'?"),
    ({"hub_id": "lab/texts", "text_field": "txt"}, "data.text_field='txt'; did you mean 'text'?"),
    ({"hub_id": "lab/texts", "text_field": "id"}, "'id' is int, not text"),
    ({"hub_id": "lab/two"}, "set data.hub_config to one of alpha, beta"),
    ({"hub_id": "lab/two", "hub_config": "alfa"}, "did you mean 'alpha'?"),
    ({"hub_id": "lab/script"}, "choose a copy of it in parquet"),
    ({"hub_id": "lab/texts", "val_split": "train"}, "is data.split itself"),
]


def test_mistakes_are_one_line_with_the_nearest_name(hub: HubStandIn, tmp_path: Path) -> None:
    answers = ask(hub.url, tmp_path, *(config for config, _ in MISTAKES))
    for answer, (config, says) in zip(answers, MISTAKES, strict=True):
        assert isinstance(answer, str) and says in answer and "\n" not in answer, config


def test_a_proxy_is_what_has_to_be_reachable(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    from normlab.data.hub import _reachable

    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not _reachable("https://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", hub.url)
    assert _reachable("https://127.0.0.1:9")


def test_a_bare_id_is_refused_before_anything_is_asked() -> None:
    from normlab.data.sources import open_source

    with pytest.raises(UserError, match=r"data\.hub_id=wikitext"):
        open_source(DataConfig(source="hub", hub_id="wikitext"))
