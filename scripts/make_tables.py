#!/usr/bin/env python
"""Tables and figures of an experiment: ``python scripts/make_tables.py quickstart``; the same as ``normlab report``."""

import sys

from normlab.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
