"""One point of an experiment: from a model's name to a finished run."""

from vkdlib.experiments.point import launched, load_unlearned, run

__all__ = ["launched", "load_unlearned", "run"]
