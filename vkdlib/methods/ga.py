"""GA, gradient ascent: make the forget people's answers unlikely, and nothing else."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vkdlib.methods.base import Prepared, ascend, trained_parameters
from vkdlib.models.loaded import Loaded
from vkdlib.tasks import Tasks


@dataclass(frozen=True)
class GA:
    """L = -L_vqa^f (Thudi et al. 2022; VKD paper §4.2: "on the forget VQA set").

    The loss has no lower bound: what is left of the model depends on when one stops.

    Attributes:
        trained: "all" (the paper's setting for baselines), "lora" or "visual", see `trained_parameters`.
    """

    trained: str = "all"
    trains = True  # not a setting: steps are taken

    def scope(self, loaded: Loaded) -> dict[str, torch.nn.Parameter]:
        """What is trained."""
        return trained_parameters(loaded, self.trained)

    def prepare(self, loaded: Loaded, tasks: Tasks, *_) -> Prepared:
        """Nothing is needed."""
        return Prepared()

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict):
        """(-L_vqa^f, its named loss)."""
        return ascend(loaded, part, batch)

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict):
        """Nothing is kept."""
        return torch.zeros((), device=loaded.device), dict[str, Tensor]()
