"""Made-up people, their portraits, and benchmarks about them in the published schemas."""
