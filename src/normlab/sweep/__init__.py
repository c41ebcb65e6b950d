"""Many runs: where they run (this machine, Slurm, Ray), what the disk says about each, what is to do, a view of it."""
