"""The page: one HTML file with its data, its style and its program inside, that asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

# In the order in which they build on each other.
_PROGRAM = ("state", "theme", "table", "training", "marks", "depth", "panels", "main")


def render_page(data: dict[str, Any], made: str) -> str:
    """``data`` of ``payload``; ``made`` says when. Names in it may hold anything: they stay text."""
    from plotly.offline import get_plotlyjs

    program = '"use strict";\n(() => {\n' + "\n".join(_asset(f"{name}.js") for name in _PROGRAM) + "\n})();"
    scripts = [get_plotlyjs().replace("</script", "<\\/script"), program]
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_asset("page.html"))
    return template.render(
        heading=data["heading"],
        made=made,
        policy=_policy(scripts),
        style=_asset("page.css"),
        data=_inert(data),
        scripts=scripts,
    )


def _asset(name: str) -> str:
    return (resources.files("normlab.compare") / "assets" / name).read_text()


def _inert(data: dict[str, Any]) -> str:
    """JSON that no parser of HTML can mistake for markup."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: list[str]) -> str:
    """A Content-Security-Policy: only these two scripts run, nothing is fetched. Plotly sets styles while it draws."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    sources = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:"
