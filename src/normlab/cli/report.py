"""``normlab report``."""

from __future__ import annotations

from collections.abc import Sequence

from normlab.cli.arguments import Arguments

HELP = """\
normlab report NAME                  tables and figures of an experiment, from what its runs wrote to disk

  normlab report quickstart                        -> results/quickstart/
  normlab report my/grid.yaml                      a file of your own
  normlab report scratch                           runs made by hand, without an experiment file
  normlab report quickstart --results-dir /tmp/r   elsewhere

  --runs-dir DIR      where the runs are (runs)
  --results-dir DIR   where the report goes (results)
"""


def run(words: Sequence[str]) -> int:
    arguments = Arguments(HELP)
    arguments.add_argument("name", metavar="NAME")
    arguments.add_argument("--runs-dir", default="runs")
    arguments.add_argument("--results-dir", default="results")
    given = arguments.read(words)

    from normlab.report import write_report

    write_report(given.name, given.runs_dir, given.results_dir)
    return 0
