"""GA, gradient ascent: make the forget people's answers unlikely, and nothing else."""

from dataclasses import dataclass

from vkdlib.methods.base import TRAINED, Cost, Method, TaskSize, ascend, forget_set
from vkdlib.models.loaded import Loaded
from vkdlib.system.checks import setting


@dataclass(frozen=True)
class GA(Method):
    """L = -L_vqa^f.

    Thudi et al. 2022; VKD paper §4.2: "on the forget VQA set"; VGID paper, Eq. 6. The loss has no lower
    bound: what is left of the model depends on when one stops.

    Attributes:
        trained: "all" (the paper's setting for baselines), "lora" or "visual", see `trained_parameters`.
    """

    origin = "paper"
    ascends = True
    forget_terms = ascend
    trained: str = setting("all", known=TRAINED)

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        return Cost(epoch=forget_set(size))
