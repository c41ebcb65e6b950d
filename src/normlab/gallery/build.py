"""The gallery as files: four pages and a picture of each placement. Equal sources give equal files."""

from __future__ import annotations

from pathlib import Path

from normlab.config.paths import shipped
from normlab.files import write_atomic
from normlab.gallery.catalog import entries
from normlab.gallery.diagram import diagram
from normlab.gallery.evidence import check_complete, evidence_path, read_evidence
from normlab.gallery.metrics_page import metrics_page
from normlab.gallery.norm_card import norm_cards
from normlab.gallery.norm_page import norm_page
from normlab.gallery.placement_page import placement_page
from normlab.gallery.verification_page import verification_page


def build(out: str | Path, evidence_file: Path | None = None) -> list[Path]:
    """Write ``placements.md``, ``norms.md``, ``metrics.md``, ``verification.md`` and ``placements/NAME.svg``.

    Everything that ships must have its complete row in the evidence; UserError names the first that has not. What is a
    user's own is shown without. Returns the files.
    """
    source = evidence_file or evidence_path()
    evidence = read_evidence(source)
    placements, norms = entries(), list(norm_cards().values())
    expected = {
        "placement": [entry.name for entry in placements if entry.shipped],
        "norm": [card.type.name for card in norms if card.type.shipped],
        "preset": [path.stem for path in (shipped("configs") / "preset").glob("*.yaml")],
    }
    check_complete(evidence, expected, source)
    files = {
        "placements.md": placement_page(placements, evidence.rows["placement"]),
        "norms.md": norm_page(norms, evidence.rows["norm"]),
        "metrics.md": metrics_page(),
        "verification.md": verification_page(evidence),
    }
    for entry in placements:
        files[f"placements/{entry.name}.svg"] = diagram(entry.placement, entry.resolved(), entry.card.title)
    folder = Path(out)
    (folder / "placements").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomic(folder / name, content)
    return [folder / name for name in files]
