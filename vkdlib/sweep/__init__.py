"""Many points: a grid in YAML, run here, on Dask or as a SLURM array."""
