"""normlab's commands one after the other in one process: a line in, its exit code out after what it printed."""

from __future__ import annotations

import shlex
import sys

from normlab.cli import main

for line in sys.stdin:
    print(f"= {main(shlex.split(line))}", flush=True)
