"""A wandb workspace and report of an experiment, written by code: what is shown, how it is built, where it is kept."""
