"""Runs and records: what was made, kept whole and found again. Needs no torch but for deltas."""
