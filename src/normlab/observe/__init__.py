"""What is measured while a run goes on, and where it is written. Nothing here changes a number of the run."""
