from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from normlab.config.schema import DataConfig
from normlab.data.sources import open_source, stdlib_files
from normlab.data.text_files import find_files, read_documents
from normlab.errors import UserError


def read(path: Path, field: str = "text") -> list[str]:
    return list(read_documents(path, field))


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_txt_is_one_document_line_ends_and_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\ntwo\n".encode())
    assert read(path) == ["one\r\ntwo\n"]


def test_rows_are_documents_and_rows_without_text_are_left_out(tmp_path: Path) -> None:
    texts = ["one", "", None, " \n", "two\nlines"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": t, "n": 1}) for t in texts) + "\n\n")
    pq.write_table(pa.table({"body": texts, "n": [1] * 5}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.jsonl", "body") == ["one", "two\nlines"]
    assert read(tmp_path / "a.parquet", "body") == ["one", "two\nlines"]


def test_half_a_surrogate_pair_becomes_a_question_mark(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b \\ud83d\\ude00"}\n')
    assert read(tmp_path / "a.jsonl") == ["a?b \U0001f600"]


def test_files_come_in_the_order_given_globs_sorted_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.txt", "a.txt", "z.jsonl", "odd[1].txt", "sub/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.setenv("HOME", str(tmp_path))
    names = [p.name for p in find_files(["~/z.jsonl", "~/[ab].txt", "~/a.txt", "~/odd[1].txt"], "data.paths")]
    assert names == ["z.jsonl", "a.txt", "b.txt", "odd[1].txt"]
    assert {p.name for p in find_files([f"{tmp_path}/**/*.txt"], "k")} == {
        "a.txt",
        "b.txt",
        "odd[1].txt",
        "c.txt",
    }


def test_a_file_named_for_validation_is_not_trained_on(tmp_path: Path) -> None:
    for name in ("a", "b", "val"):
        (tmp_path / f"{name}.txt").write_text(name)
    paths, val_paths = [f"{tmp_path}/*.txt"], [f"{tmp_path}/val.txt"]
    source = open_source(DataConfig(source="files", paths=paths, val_paths=val_paths))
    assert list(source.train()) == ["a", "b"]
    assert list(source.val() or ()) == ["val"]
    with pytest.raises(UserError) as error:
        open_source(DataConfig(source="files", paths=paths, val_paths=paths))
    assert "nothing is left to train on" in one_line(error)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("texts/shakespear.txt", "did you mean 'shakespeare.txt'?"),
        ("texts/*.parquet", "known: notes.jsonl, shakespeare.txt"),
        ("text/*.txt", "did you mean 'texts'?"),
        ("texts", "data.paths=[texts/*.txt]"),
        ("texts/README.md", "neither of .txt, .jsonl, .parquet"),
    ],
)
def test_a_wrong_path(pattern: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts").mkdir()
    for name in ("shakespeare.txt", "notes.jsonl", "README.md"):
        (tmp_path / "texts" / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        find_files([pattern], "data.paths")
    assert says in one_line(error)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b" \n", "holds no text; take it out of data.paths"),
        ("a.jsonl", b'{"text": ""}\n', "holds no text"),
        ("a.txt", b"abc\xe9def", "a.txt is not UTF-8 at byte 3; convert it"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', "not UTF-8 at byte 24"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl:2: not JSON"),
        ("a.jsonl", b'["x"]\n', 'a.jsonl:1: a row is an object such as {"text"'),
        ("a.jsonl", b'{"texts": "x"}\n', "data.text_field='text'; did you mean 'texts'?"),
        ("a.jsonl", b'{"text": 5}\n', "a.jsonl:1: 'text' is int, not text"),
        ("a.parquet", b"PAR1 or not", "is not a readable parquet file"),
    ],
)
def test_a_bad_file(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read(tmp_path / name)
    assert says in one_line(error)


def test_a_parquet_without_the_column_or_with_numbers_in_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"txt": ["x"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.parquet")
    assert "did you mean 'txt'? (known: n, txt)" in one_line(error)
    with pytest.raises(UserError) as error:
        read(tmp_path / "a.parquet", "n")
    assert "column 'n' is int64, not text" in one_line(error)


def test_the_standard_library_without_tests_and_build_files() -> None:
    files = stdlib_files()
    assert files == sorted(files)
    assert {"ast.py", "argparse.py"} <= {path.name for path in files}
    assert not {"test", "tests", "idle_test", "site-packages"} & {part for path in files for part in path.parts}
    assert all(next(read_documents(path, "")) for path in files[:20])
