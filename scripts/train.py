#!/usr/bin/env python
"""Train one run: ``python scripts/train.py placement=hybrid``; the same as ``normlab train``."""

import sys

from normlab.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
