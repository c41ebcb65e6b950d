"""Measuring a trained network on held-out text."""
