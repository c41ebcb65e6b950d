#!/usr/bin/env python
"""Run an experiment: ``python scripts/sweep.py experiments/quickstart.yaml``; the same as ``normlab sweep``."""

import sys

from normlab.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
