"""One file per table; each registers itself with ``@table("name")``."""
