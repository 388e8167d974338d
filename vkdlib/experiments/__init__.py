"""One run of an experiment: from a model's name to a folder of answers."""

from vkdlib.experiments.pipeline import load_unlearned, run, run_together
from vkdlib.runs.configuration import Configuration, Machine

__all__ = ["Configuration", "Machine", "load_unlearned", "run", "run_together"]
