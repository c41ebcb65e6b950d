"""The page in a real browser: it draws, it filters, it changes its theme, and it asks the network for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page
from synthetic_runs import write_run

from normlab.compare.command import compare_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here"),
]
CHARTS = ("training-chart", "profile-chart", "heatmap-chart", "matrix-chart", "other-chart", "throughput-chart")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two placements with two seeds, one that stagnated, one damaged, one with a name that is a script."""
    root = tmp_path_factory.mktemp("runs")
    why = {"text": "The gradient died.", "quantity": "grad_norm", "step": 7, "layer": 3}
    for seed in (0, 1):
        write_run(root, "pre", seed=seed, spikes=(20,))
        folder = write_run(root, "hybrid", seed=seed, val_loss=2.3)
        with (folder / "probes.jsonl").open("a") as probes:
            probes.write('{"step": 60, "angular_distance": [[0.1, 0.2], [0.3, null]], "logits.log_z": 5.0}\n')
    write_run(root, "post", outcome="stagnated", val_loss=4.6, summary={"diagnosis": why, "first_bad_step": 5})
    write_run(root, "deepnorm", val_loss=None, outcome="nan", status="diverged", diverged_step=30)
    write_run(root, "<script>window.broken = true</script>", val_loss=2.4)
    (write_run(root, "sandwich") / "config.yaml").write_text("[")
    return compare_runs([str(root)], root / "page.html")


@pytest.fixture(scope="module")
def page(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(file)
        yield opened


@pytest.fixture(autouse=True)
def nothing_to_complain_of(page: Page, file: Path) -> Iterator[None]:
    yield
    assert page.complaints == []
    assert [a for a in page.requests if not a.startswith(("data:", "blob:")) and a != file.as_uri()] == []


def _traces(page: Page, chart: str = "training-chart") -> int:
    return page.run(f"document.getElementById('{chart}').data?.length ?? 0")


def _click(page: Page, selector: str) -> None:
    page.run(f"document.querySelector({selector!r}).click()")


def test_every_chart_is_drawn(page: Page) -> None:
    for chart in CHARTS:
        assert _traces(page, chart) > 0, chart
        marks = f"document.querySelectorAll('#{chart} .trace, #{chart} .hm image').length"
        assert page.run(marks) > 0, chart
    assert page.run("document.querySelectorAll('#profiles .card .trace').length") > 0
    assert page.run("document.querySelectorAll('#table tr[data-run]').length") == 8
    assert page.run("document.querySelectorAll('#legend li').length") == 6
    levels = page.run("document.getElementById('training-chart').layout.annotations.map((a) => a.text.trim())")
    assert {"ln V", "unigram", "initial loss", "clipped above 1"} <= set(levels)


def test_the_table_begins_with_the_best_and_sorts(page: Page) -> None:
    first = "document.querySelector('#table tbody tr').dataset.run"
    assert page.run(first).startswith("hybrid")
    _click(page, "[data-column=Outcome]")
    assert "damaged" in page.run("document.querySelector('#table tbody tr').textContent")
    _click(page, "[data-column='Val. loss']")
    assert page.run(first).startswith("hybrid")


def test_a_filter_hides_the_lines_and_showing_all_brings_them_back(page: Page) -> None:
    before = _traces(page)
    _click(page, "[data-filter=placement] input[value='Pre-Norm']")
    names = "JSON.stringify(document.getElementById('training-chart').data.map((trace) => trace.hovertemplate))"
    assert 0 < _traces(page) < before and "Pre-Norm" not in page.run(names)
    assert page.run("document.querySelectorAll('#legend li.off').length") == 1
    _click(page, "#table th.box button")
    assert _traces(page) == before and "Pre-Norm" in page.run(names)


def test_a_run_is_hidden_by_its_box(page: Page) -> None:
    before = _traces(page)
    _click(page, "#table tbody tr:first-child input")
    assert _traces(page) < before
    assert page.run("document.activeElement === document.querySelector('#table tbody tr:first-child input')")
    _click(page, "#table tbody tr:first-child input")
    assert _traces(page) == before


def test_seeds_are_a_band_or_single_lines(page: Page) -> None:
    bands = "document.getElementById('training-chart').data.filter((trace) => trace.fill === 'toself').length"
    heatmaps = "document.getElementById('heatmap-chart').data.filter((trace) => trace.type === 'heatmap').length"
    assert page.run(bands) == 4, "loss and gradient norm of two treatments with two seeds"
    together = page.run(heatmaps)
    _click(page, "[name=seeds][value=single]")
    assert page.run(bands) == 0 and page.run(heatmaps) > together
    _click(page, "[name=seeds][value=bands]")
    assert page.run(bands) == 4


def test_the_slider_moves_the_profiles_and_their_axes_stay(page: Page) -> None:
    shown = "JSON.stringify(document.getElementById('profile-chart').data.map((trace) => trace.y))"
    axes = "JSON.stringify(document.getElementById('profile-chart').layout.yaxis.range)"
    before, range_before = page.run(shown), page.run(axes)
    page.run(
        "(() => { const s = document.getElementById('step'); s.value = 1; s.dispatchEvent(new Event('input')); })()"
    )
    assert page.run("document.getElementById('step-shown').textContent") == "1"
    assert page.run(shown) != before and page.run(axes) == range_before


def test_heatmaps_share_axes_and_colours(page: Page) -> None:
    layout = "document.getElementById('heatmap-chart').layout"
    assert page.run(f"{layout}.xaxis2.matches") == "x" and page.run(f"{layout}.yaxis2.matches") == "y"
    coloured = "new Set(document.getElementById('heatmap-chart').data.filter((t) => t.z).map((t) => t.coloraxis)).size"
    assert page.run(coloured) == 1


def test_a_diagnosis_turns_the_page_to_its_layer(page: Page) -> None:
    page.run("(() => { const q = document.getElementById('quantity'); q.value = 'ffn.rms_out'; q.onchange(); })()")
    _click(page, "td.why button")
    assert page.run("document.getElementById('quantity').value") == "grad_norm"
    assert page.run("document.getElementById('step-shown').textContent") == "10", "the first look after step 7"
    rings = "data.filter((trace) => trace.marker?.symbol === 'circle-open').map((trace) => trace.y)"
    assert page.run(f"document.getElementById('heatmap-chart').{rings}") == [[3]]


def test_the_theme_follows_the_system_and_the_switch(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "document.getElementById('training-chart').layout.font.color"
    light, dark_ink = page.run(ground), page.run(ink)
    _click(page, "#theme")
    assert page.run(ground) != light and page.run(ink) != dark_ink
    _click(page, "#theme")
    assert page.run(ground) == light
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    page.wait_for(f"{ground} !== {light!r}")
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    page.wait_for(f"{ground} === {light!r}")


def test_paper_is_light_and_the_screen_as_it_was_afterwards(page: Page) -> None:
    _click(page, "#theme")
    theme = "document.documentElement.dataset.theme"
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    assert page.run(theme) == "light" and page.run("document.body.clientWidth") == 1000
    page.run("window.dispatchEvent(new Event('afterprint'))")
    assert page.run(theme) == "dark" and page.run("document.body.clientWidth") == 1440
    _click(page, "#theme")


def test_a_hostile_name_runs_nothing_and_is_read_as_it_is(page: Page) -> None:
    assert page.run("window.broken") is None
    assert "<script>window.broken = true</script>" in page.run("document.getElementById('legend').textContent")


def test_controls_are_reached_by_keyboard(page: Page) -> None:
    page.run("document.querySelector('#seeds input').focus()")
    for _ in range(4):
        for kind in ("keyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert page.run("document.activeElement.closest('#filters') !== null")


@pytest.mark.parametrize("width", [1440, 1024])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    page.wait_for(f"document.documentElement.scrollWidth <= {width} && window.innerWidth === {width}")


def test_a_zero_on_a_logarithmic_axis_is_drawn_and_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "post")
    for name, text in (
        ("probes", '{"step": 60, "grad_norm": [0.0, 1e-6, 1e-3, 1e-2, null, 1.0]}'),
        ("metrics", '{"step": 61, "loss": 3.0, "grad_norm": 0.0}'),
    ):
        with (folder / f"{name}.jsonl").open("a") as file:
            file.write(text + "\n")
    with Page(tmp_path / "profile") as page:
        page.open(compare_runs([str(tmp_path)], tmp_path / "page.html"))
        page.run(
            "(() => { const s = document.getElementById('step'); s.value = 9; s.dispatchEvent(new Event('input')); })()"
        )
        line = "document.getElementById('profile-chart').data[0]"
        assert page.run(f"{line}.y") == pytest.approx([1e-6, 1e-6, 1e-3, 1e-2, None, 1.0])
        assert page.run(f"{line}.marker.symbol.slice(0, 2)") == ["circle-open", "circle"]
        assert page.run(f"{line}.customdata[0]").startswith("0, drawn at the smallest")
        assert page.run(f"{line}.customdata[1]").startswith("1.00e-6")
        heat = "document.getElementById('heatmap-chart').data[0]"
        assert page.run(f"{heat}.z.map((row) => row.at(-1))") == pytest.approx([-6, -6, -3, -2, None, 0])
        assert "<br>0, drawn" in page.run(f"{heat}.text[0].at(-1)")
        norms = "document.getElementById('training-chart').data.find((t) => t.yaxis === 'y2')"
        assert page.run(f"{norms}.y.at(-1)") > 0 and page.run(f"{norms}.customdata.at(-1)").startswith("0, drawn")
