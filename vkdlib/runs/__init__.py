"""Runs and records: results are written whole, and found again. Only deltas need torch."""
