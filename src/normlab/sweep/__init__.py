"""Many runs on one machine: a pool of slots, what the disk says about each run, and a view of both."""
