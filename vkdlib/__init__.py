"""vkdlib: unlearn a person's face in a multimodal LLM, by Visual Knowledge Distillation.

Import what you need from its modules: data, models, packs, pruning, masking, losses, methods, unlearn,
evaluate, metrics, runs, experiments, tables, plots. This file stays light: it loads none of them.
"""

__version__ = "0.1.0"
