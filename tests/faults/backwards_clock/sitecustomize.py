"""Python runs this by itself where PYTHONPATH says so: the machine's clock goes back by a minute at every look."""

from __future__ import annotations

import itertools
import time

_looks = itertools.count()
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() - 60 * next(_looks)
time.time_ns = lambda: _time_ns() - 60 * 10**9 * next(_looks)
