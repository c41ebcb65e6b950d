"""Which commit a number is said to come from: changes of code make it dirty, what code writes does not."""

from __future__ import annotations

import subprocess

import pytest

import normlab.provenance as provenance


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for folder in ("src/normlab", "results/quickstart", "docs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text("before\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "src/normlab/provenance.py"))
    return tmp_path


def test_a_clean_tree_is_its_commit(checkout):
    head = git(checkout, "rev-parse", "HEAD").stdout
    assert provenance.commit() and head.startswith(provenance.commit())


@pytest.mark.parametrize(("file", "dirty"), [
    ("src/normlab/a.txt", True),
    ("results/quickstart/a.txt", False),
    ("docs/a.txt", False),
])  # fmt: skip
def test_only_code_makes_it_dirty(checkout, file, dirty):
    (checkout / file).write_text("after\n")
    assert provenance.commit().endswith("-dirty") == dirty


def test_outside_a_checkout_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() is None
