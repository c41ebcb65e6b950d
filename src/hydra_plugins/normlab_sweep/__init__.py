"""Plugins that Hydra finds by itself: a sweeper that knows experiments, a launcher with a pool of slots."""
