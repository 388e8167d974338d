"""The embedded models: real architectures made small, trained from scratch."""
