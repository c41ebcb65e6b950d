"""A look inside the layers: statistics of passes of one frozen batch.

The passes are apart from training: eager, float32, in evaluation mode and without a random number. Hooks exist only
while they run, on the modules where the quantity lives. A new statistic is a function with ``@probe`` in a file here.

    stream attention outputs tokens units routing   views, and the statistics of each
    angular                                         what compares layers
    watch, look deep nonfinite                      the hooks, and the three looks
"""

from __future__ import annotations

import importlib
import pkgutil

from normlab.observe.layers.deep import probe_deep
from normlab.observe.layers.look import probe_activations
from normlab.observe.layers.nonfinite import first_nonfinite
from normlab.observe.layers.registry import PROBES, probe

# Every module of this folder, so that a statistic in a file laid here is found without an edit elsewhere.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["PROBES", "first_nonfinite", "probe", "probe_activations", "probe_deep"]
