from __future__ import annotations

import pytest

from normlab.data.splits import hold_out, limited

DOCUMENTS = [f"document number {i}" for i in range(2000)]


def held(texts: list[str], fraction: float) -> set[str]:
    return {text for split, text in hold_out(texts, fraction) if split == "val"}


def test_the_share_held_out_is_about_the_fraction_and_nothing_is_lost() -> None:
    parts = list(hold_out(DOCUMENTS, 0.1))
    assert sorted(text for _, text in parts) == sorted(DOCUMENTS)
    assert 150 < len(held(DOCUMENTS, 0.1)) < 250


def test_the_side_of_a_document_does_not_depend_on_its_neighbours() -> None:
    assert held(DOCUMENTS[::-1], 0.1) == held(DOCUMENTS, 0.1)
    assert held(DOCUMENTS[::2], 0.1) == held(DOCUMENTS, 0.1) & set(DOCUMENTS[::2])
    assert held(DOCUMENTS, 0.1) < held(DOCUMENTS, 0.2)


@pytest.mark.parametrize("fraction", [1e-9, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("n", [2, 3, 50])
def test_both_sides_get_something(fraction: float, n: int) -> None:
    parts = list(hold_out(DOCUMENTS[:n], fraction))
    assert sorted(text for _, text in parts) == sorted(DOCUMENTS[:n])
    assert {split for split, _ in parts} == {"train", "val"}


def test_the_document_that_changes_sides_does_not_depend_on_the_order() -> None:
    assert len(held(DOCUMENTS[:50], 1e-9)) == 1
    assert held(DOCUMENTS[49::-1], 1e-9) == held(DOCUMENTS[:50], 1e-9)


def test_a_single_document_is_cut_near_its_end() -> None:
    text = "0123456789" * 10
    assert list(hold_out([text], 0.05)) == [("train", text[:95]), ("val", text[95:])]
    assert list(hold_out(["ab"], 0.05)) == [("train", "a"), ("val", "b")]
    assert list(hold_out([], 0.05)) == []


def test_reading_stops_at_so_many_bytes_and_between_characters() -> None:
    reads = iter(["abc", "éé", "never read"])
    assert list(limited(reads, 6)) == ["abc", "é"]
    assert next(reads) == "never read"
    assert list(limited(["abc", "éé"], None)) == ["abc", "éé"]
