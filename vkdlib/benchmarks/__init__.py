"""Benchmarks: people, their pictures, and the questions about them."""
