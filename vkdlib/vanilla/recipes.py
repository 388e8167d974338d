"""How a vanilla model is made, in numbers: what is trained, on what, for how long; each with its source.

"lora" is what a benchmark's own authors do. "full" also trains the whole visual module and teaches the facts
in text. MLLMU-Bench's authors put adapters on the language model alone. New faces are then known there, where
a method that trains the visual module cannot remove them. CLEAR's authors put adapters on the visual module
too. What holds for one kind of vanilla model need not hold for another, so report both.

Left out: dropout in the adapters (MLLMU-Bench: 0.05), the warm-up of CLEAR's first epoch and its
8-bit optimiser, and the attention of CLIP that MLLMU-Bench's adapters reach, unintended, by matching the ends
of names. Labels are answers alone, as in CLEAR's code; MLLMU-Bench's count the question in.
"""

from dataclasses import dataclass, fields, replace

from torch import nn

from vkdlib.models.adapters import adaptable_modules, adapter_weights, attach_adapters
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import dead_parameters, visual_weights
from vkdlib.system import checks

RECIPES = ("lora", "full")
VISION = ("frozen", "adapters", "whole")


@dataclass(frozen=True)
class Recipe:
    """How people are taught to a model; its language model always learns by adapters.

    Attributes:
        rank, alpha: of the adapters.
        vision: what is trained in the visual module: nothing ("frozen"), "adapters" on its linear layers, or
            the "whole" projector and vision tower, but for blocks whose output nobody reads.
        text: whether the questions in text are taught too, about hidden people as well.
        epochs: rounds over all questions.
        lr: at the start; it falls to 0 in a straight line.
        batch_size: single questions in a step.
        weight_decay: of AdamW.
        seed: of the order of the questions.
        micro_batch: questions on the device at a time; None: all of a step's. It changes no result but by
            rounding. The same holds for the number of processes (see `system.processes`).
    """

    rank: int = checks.setting(low=1)
    alpha: float = checks.setting(above=0)
    vision: str = checks.setting(known=VISION)
    text: bool
    epochs: float = checks.setting(above=0)
    lr: float = checks.setting(above=0)
    batch_size: int = checks.setting(low=1)
    weight_decay: float = checks.setting(low=0)
    seed: int = checks.setting(0, low=0)
    micro_batch: int | None = checks.setting(None, low=1)

    def __post_init__(self):
        checks.check_fields(self)


AUTHORS = {  # by the schema of their benchmark
    # MLLMU-Bench's finetune.py and its README; weight decay is that of its unlearning code.
    "mllmu": Recipe(16, 16, "frozen", False, epochs=5, lr=2e-5, batch_size=4, weight_decay=0.0),
    # CLEAR's mm/finetune.py with config/mm/finetune.yaml: full+tofu, batches of 4, accumulated twice.
    "clear": Recipe(8, 32, "adapters", True, epochs=3, lr=1e-5, batch_size=8, weight_decay=0.01),
}


def make_recipe(name: str, schema: str, **changes) -> Recipe:
    """A recipe for a benchmark.

    Args:
        name: one of RECIPES.
        schema: of the benchmark: its authors' recipe is taken.
        changes: fields of the recipe with other values; None leaves its own.
    Raises:
        ValueError: an unknown recipe, schema or field, or a field of a value that cannot be.
    """
    checks.one_of("recipe", name, RECIPES)
    checks.one_of("schema", schema, AUTHORS)
    checks.check_names("a recipe", changes, [f.name for f in fields(Recipe)])
    recipe = AUTHORS[schema]
    if name == "full":
        recipe = replace(recipe, vision="whole", text=True)
    return replace(recipe, **{field: value for field, value in changes.items() if value is not None})


def recipe_parameters(loaded: Loaded, recipe: Recipe) -> dict[str, nn.Parameter]:
    """Attach a recipe's adapters; returns what it trains: name in the model -> parameter."""
    modules = (
        adaptable_modules(loaded) if recipe.vision == "adapters" else [loaded.family.language(loaded.model)]
    )
    attach_adapters(modules, recipe.rank, recipe.alpha)
    visual = visual_weights(loaded) - dead_parameters(loaded) if recipe.vision == "whole" else set()
    return adapter_weights(loaded.model) | {n: p for n, p in loaded.model.named_parameters() if p in visual}
