"""Names come from configurations and are shown, in every kind of page, as they are: never read as markup or paths."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import normlab
from normlab.config.identity import run_dir
from normlab.gallery.svg import Canvas
from normlab.report.render import latex_escape, to_latex, to_markdown
from normlab.report.table import Cell, Column, Table

HOSTILE = ["<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://tracker/x.png)", "a|b", "**b**", "`c`",
           "a\nb", "a\r\n| c |", "\\input{/etc/passwd}", "$x^2$", "50 % & more", "a_b#c~d", "{}", "</td>",
           "&lt;"]  # fmt: skip


def table(name: str) -> Table:
    return Table(
        name="main", caption=name, columns=[Column(name, ("a",), left=True)], rows=[[Cell(name, (name,))]], notes=[name]
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    text = to_markdown(table(name))
    for line in text.splitlines():
        assert not re.search(r"(?<!\\)</?[a-z]", line.replace("<ins>", "").replace("</ins>", "")), "no tag"
        assert not re.search(r"(?<!\\)\]\(", line), "no link"
        assert not re.search(r"(?<!\\)(\*\*b|`)", line), "no emphasis, no code"
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3 and len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1, "one row, one cell"


_LATEX_OURS = re.compile(
    r"\\(begin|end|centering|small|setlength|tabcolsep|caption|resizebox|ifdim|width|linewidth|else|fi|toprule|midrule|"
    r"bottomrule|par|smallskip|footnotesize|textbackslash|textasciitilde|textasciicircum|pm|Delta|times|dag|uparrow|"
    r"downarrow|textbf|underline|multicolumn|cmidrule|usepackage)\b|\\[{}$&%#_|\\]"
)


@settings(max_examples=80, deadline=None)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40)))
def test_latex_has_no_command_but_ours(name: str) -> None:
    text = to_latex(table(name)).split("\n", 1)[1]
    rest = _LATEX_OURS.sub("", text)
    assert "\\" not in rest
    assert not re.search(r"(?<!\\)[%#&~^]", _LATEX_OURS.sub("", latex_escape(name)))


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)))
def test_a_drawing_stays_a_drawing(name: str) -> None:
    canvas = Canvas()
    canvas.text(0, 0, name)
    root = ElementTree.fromstring(canvas.svg(title=name))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg",
        "title",
        "style",
        "rect",
        "text",
        "tspan",
    }


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", ".", "a/b", "a\\b", "a\0b", "~", "$HOME", "x" * 500]
)
def test_no_name_leads_out_of_the_folder_of_runs(name: str, tmp_path: Path) -> None:
    config = normlab.compose([f"runs_dir={tmp_path}"])
    named = config.model_copy(
        update={
            group: getattr(config, group).model_copy(update={"name": name})
            for group in ("placement", "norm", "model", "data", "optim")
        }
    )
    folder = run_dir(named)
    assert folder.resolve().relative_to(tmp_path.resolve()).parts[0] == config.experiment
    assert len(folder.relative_to(tmp_path).parts) == 3 and all(len(part) < 200 for part in folder.parts)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "..", "", "a b", "a\n", "x" * 65])
def test_an_experiment_is_a_plain_name(name: str) -> None:
    from pydantic import ValidationError

    from normlab.config.schema import Config
    from normlab.experiment.schema import Experiment

    with pytest.raises(ValidationError):
        Config(experiment=name)
    with pytest.raises(ValidationError):
        Experiment(name=name, question="?", grid=[{"placement": ["pre"]}])
