"""Other pictures made of a picture: perturbed ones, and the same face in other styles."""
