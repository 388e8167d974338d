"""Packs: one image and all its questions in one sequence."""
