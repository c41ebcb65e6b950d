"""Runs side by side, from disk alone: one interactive HTML file and a summary in the terminal. No torch, no network."""
