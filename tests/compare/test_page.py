"""The page: everything inside, nothing from outside, and a name is a name whatever it looks like."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from synthetic_runs import write_run

from normlab.compare.command import compare_runs
from normlab.compare.page import render_page
from normlab.compare.payload import kind_of, rounded

HOSTILE = "<script>alert(1)</script>"


class Parsed(HTMLParser):
    """The elements of a page as a browser sees them, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts.append((self._open, data))

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(next(text for attributes, text in self.scripts if attributes.get("id") == "data"))

    @property
    def policy(self) -> str:
        metas = [attributes for tag, attributes in self.elements if tag == "meta"]
        return next(m["content"] or "" for m in metas if m.get("http-equiv") == "Content-Security-Policy")


def _page(tmp_path: Path, *words: str) -> Parsed:
    out = tmp_path / "page.html"
    return Parsed(compare_runs(words or [str(tmp_path / "synthetic")], out).read_text())


def test_nothing_comes_from_outside(tmp_path: Path) -> None:
    write_run(tmp_path)
    page = _page(tmp_path)
    assert [tag for tag, _ in page.elements if tag in ("link", "img", "iframe", "object", "base")] == []
    addresses = [a for _, attributes in page.elements for a in (attributes.get("src"), attributes.get("href")) if a]
    assert addresses and all(address.startswith("#") for address in addresses), "links within the page only"
    policy = page.policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "http" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    styles = (Path(__file__).parents[2] / "src/normlab/compare/assets/page.css").read_text()
    assert "url(" not in styles and "@import" not in styles


def test_only_the_two_scripts_that_were_written_may_run(tmp_path: Path) -> None:
    write_run(tmp_path)
    page = _page(tmp_path)
    programs = [text for attributes, text in page.scripts if "type" not in attributes and text.strip()]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in programs]
    assert len(programs) == 2 and all(f"'sha256-{digest}'" in page.policy for digest in digests)
    assert "plotly" in programs[0][:200] and not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(", programs[1])


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "pre")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for seed, name in enumerate([HOSTILE, "--><img src=x onerror=alert(1)>", "</title>&amp;\u2028'\""]):
        config["placement"]["name"], config["seed"] = name, seed
        other = folder.parent / f"seed{seed}"
        other.mkdir(exist_ok=True)
        (other / "config.yaml").write_text(yaml.safe_dump(config))
    page = _page(tmp_path, str(folder.parent))
    data = next(text for attributes, text in page.scripts if attributes.get("id") == "data")
    assert not set("<>&") & set(data), "no state of an HTML parser can leave the data"
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 3
    assert [tag for tag, _ in page.elements if tag == "img"] == []
    assert HOSTILE in [treatment["label"] for treatment in page.data["treatments"]]


def test_the_heading_is_escaped() -> None:
    data = {"heading": HOSTILE, "runs": [], "treatments": []}
    assert HOSTILE not in render_page(data, made="").split('<script id="data"')[0]


def test_the_program_sets_text_and_never_markup() -> None:
    assets = Path(__file__).parents[2] / "src/normlab/compare/assets"
    for file in assets.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", file.read_text()), file


def test_a_run_as_data(tmp_path: Path) -> None:
    why = {"text": "The gradient died.", "quantity": "grad_norm", "step": 40, "layer": 3}
    write_run(tmp_path, "pre", spikes=(20, 40), train={"steps": 60})
    write_run(tmp_path, "post", val_loss=4.6, outcome="stagnated", summary={"diagnosis": why, "first_bad_step": 35})
    data = _page(tmp_path).data
    good, bad = data["runs"]
    assert (good["verdict"], good["spikes"], good["final"], good["clip"]) == ("ok", 2, 2.5, 1.0)
    assert [event["start"] for event in good["events"]["loss"]] == [20, 40]
    start = good["events"]["loss"][0]
    loss = dict(zip(*good["curves"]["loss"], strict=True))
    assert start["recovery"] == 5 and start["top"] == max(loss[step] for step in range(20, 26))
    assert len(loss) == 60 and good["smooth"]["loss"][0] == list(range(1, 61))
    assert good["val"][0][0] == 0 and len(good["probes"]["grad_norm"]["values"][0]) == 6
    assert (bad["why"], bad["bad_layer"], bad["bad_step"], bad["first_bad_step"]) == ("The gradient died.", 3, 40, 35)
    assert data["anchors"].keys() == {"ln V", "unigram", "initial loss"}
    assert data["factors"][0]["values"] == ["Post-Norm", "Pre-Norm"]
    assert data["thinned"] is None


def test_a_long_run_is_downsampled_and_the_page_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "pre", train={"steps": 3000})
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["step"] == 1777 and "loss" in line:
            line["loss"], line["grad_norm"] = 123.0, 456.0
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = _page(tmp_path).data
    curves = data["runs"][0]["curves"]
    assert len(curves["loss"][0]) <= 800 and data["thinned"] == {"longest": 3001, "points": 800, "every": 4}
    assert 123.0 in curves["loss"][1] and 456.0 in curves["grad_norm"][1]


def test_every_shape_of_a_probe_is_carried(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "pre")
    shapes = {"one": 1.5, "some": [1.0, None], "parts": {"q": 2.0}, "pairs": [[0.0, 1.0], [None, 0.0]], "none": []}
    (folder / "probes.jsonl").write_text("".join(json.dumps({"step": s, **shapes}) + "\n" for s in range(40)))
    data = _page(tmp_path).data
    assert data["kinds"] == {"one": "number", "some": "layers", "parts": "groups", "pairs": "matrix"}
    probes = data["runs"][0]["probes"]
    assert probes["some"]["values"][0] == [1.0, None] and probes["parts"]["values"][-1] == {"q": 2.0}
    assert len(probes["one"]["steps"]) == 40 and len(probes["pairs"]["steps"]) < 20


@pytest.mark.parametrize(
    ("value", "written"),
    [(1 / 3, 0.33333), (123456.7, 123460.0), (float("nan"), None), (float("-inf"), None),
     ([1, {"a": 1e-9}], [1, {"a": 1e-9}])],
)  # fmt: skip
def test_numbers_are_rounded_and_finite(value: Any, written: Any) -> None:
    assert rounded(value) == written


def test_kinds() -> None:
    assert [kind_of(value) for value in (1.0, [1.0], [[1.0]], {"a": 1.0}, [])] == [
        "number", "layers", "matrix", "groups", "layers",
    ]  # fmt: skip
