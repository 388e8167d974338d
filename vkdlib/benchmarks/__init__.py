"""Benchmarks: who is forgotten, and what is asked."""
