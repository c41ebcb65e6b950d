"""One file per figure; each registers itself with ``@figure("name")``."""
