"""The machine: places, files, processes, progress."""
