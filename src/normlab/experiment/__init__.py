"""An experiment: one claim, one file. Question, grid, seeds, what is held equal, the tables and figures it feeds."""

from normlab.experiment.schema import Experiment, load_experiment

__all__ = ["Experiment", "load_experiment"]
