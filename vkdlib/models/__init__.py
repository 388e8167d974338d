"""Models: load them, know their parts."""
