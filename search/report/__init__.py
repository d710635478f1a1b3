"""What people look at: tables on the screen and charts, made from a `Run` and nothing else."""
