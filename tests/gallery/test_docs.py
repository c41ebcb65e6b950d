"""The committed pages are those that the sources give, and a table of evidence has no holes."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from normlab.config.paths import shipped
from normlab.errors import UserError
from normlab.gallery.build import build
from normlab.gallery.catalog import placement_files
from normlab.gallery.evidence import COLUMNS, evidence_path, read_evidence
from normlab.gallery.markdown import prose, table
from normlab.gallery.norm_card import norm_cards

DOCS = shipped("docs")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    build(folder)
    return folder


def test_the_committed_pages_are_up_to_date(fresh):
    made = {path.relative_to(fresh): path.read_text() for path in fresh.rglob("*") if path.is_file()}
    assert len(made) == 4 + len(placement_files())
    stale = [
        str(path) for path, text in made.items() if not (DOCS / path).is_file() or (DOCS / path).read_text() != text
    ]
    assert not stale, f"run `make docs`: {stale}"


def test_no_picture_of_a_placement_that_is_gone():
    assert {path.stem for path in (DOCS / "placements").glob("*.svg")} == set(placement_files())


def test_everything_that_ships_has_its_row():
    rows = read_evidence(evidence_path()).rows
    assert set(rows["placement"]) == set(placement_files())
    assert set(rows["norm"]) == {name for name, card in norm_cards().items() if card.type.shipped}
    assert set(rows["preset"]) == {path.stem for path in (shipped("configs") / "preset").glob("*.yaml")}
    for kind, columns in COLUMNS.items():
        assert all(set(row) == set(columns) for row in rows[kind].values())


def test_the_evidence_says_what_it_should():
    """Bounds of the tests that measured it; a file edited by hand would have to be edited well."""
    rows = read_evidence(evidence_path()).rows
    for name, row in rows["placement"].items():
        assert row["equation"] < 1e-9 and row["causal"] == 0 and row["deep"] > 0, name
    for name, row in rows["norm"].items():
        assert row["equation"] < 1e-9 and row["deep"] > 0, name
        assert (row["causal"] == 0) == norm_cards()[name].type.causal, name
    for name, row in rows["preset"].items():
        assert row["logits"] < 1e-12 and row["causal"] == 0 and row["library"].startswith("transformers "), name
    with_library = [name for name, row in rows["placement"].items() if row["library"] != "-"]
    assert {"pre", "post", "olmo2", "gemma2", "mhc"} <= set(with_library)


@pytest.fixture
def damaged(tmp_path: Path):
    """The committed evidence after a change, as a file."""

    def write(change) -> Path:
        content: dict[str, Any] = json.loads(evidence_path().read_text())
        change(content)
        path = tmp_path / "evidence.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("column", ["library", "causal", "parameters", "deep"])
@pytest.mark.parametrize("value", [None, "", True], ids=["null", "empty", "true"])
def test_a_row_with_an_empty_cell_is_refused(kind, column, value, damaged, tmp_path):
    name = sorted(read_evidence(evidence_path()).rows[kind])[0]

    def blank(content):
        content[kind][name][column] = value

    with pytest.raises(UserError, match=f"the {kind} '{name}' has no {column}"):
        build(tmp_path / "out", damaged(blank))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "column"), [(kind, column) for kind, columns in COLUMNS.items() for column in columns]
)
def test_a_row_without_a_cell_is_refused(kind, column, damaged, tmp_path):
    name = sorted(read_evidence(evidence_path()).rows[kind])[-1]
    with pytest.raises(UserError, match=f"the {kind} '{name}' has no {column}"):
        build(tmp_path / "out", damaged(lambda content: content[kind][name].pop(column)))


def test_a_missing_row_and_one_too_many_are_refused(damaged, tmp_path):
    with pytest.raises(UserError, match=r"the placement 'hybrid' has no row: no test has verified it; run `make docs`"):
        build(tmp_path / "out", damaged(lambda content: content["placement"].pop("hybrid")))

    def add(content):
        content["norm"]["gone"] = copy.deepcopy(content["norm"]["rmsnorm"])

    with pytest.raises(UserError, match="there is no norm 'gone' any more"):
        build(tmp_path / "out", damaged(add))


def test_a_file_that_is_no_evidence_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file; run `make docs`"):
        build(tmp_path / "out", tmp_path / "nothing.json")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(UserError, match="not what `pytest --evidence` writes"):
        build(tmp_path / "out", tmp_path / "other.json")


def test_text_of_a_comment_is_not_mark_up():
    assert prose("a * b_c <d> |e| [f]") == r"a \* b\_c \<d\> \|e\| \[f\]"
    assert prose("`a * b_c`, arXiv 2503.04598") == "`a * b_c`, [arXiv 2503.04598](https://arxiv.org/abs/2503.04598)"
    assert table(["A", "B:"], [["`|a|`", "1"]]) == "| A | B |\n| --- | ---: |\n| `\\|a\\|` | 1 |\n"


def test_every_link_within_the_pages_leads_somewhere(fresh):
    for page in fresh.glob("*.md"):
        text = page.read_text()
        headings = {
            re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        }
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings
        for target in re.findall(r"\]\(([a-z]+\.md)\)", text) + re.findall(r'src="([^"]+)"', text):
            assert (fresh / target).is_file(), target
