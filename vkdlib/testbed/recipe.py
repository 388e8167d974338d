"""The numbers by which the embedded models are made, and which models there are."""

from vkdlib.benchmarks.load import EMBEDDED
from vkdlib.system import paths
from vkdlib.system.files import read_yaml

FOLDER = paths.PACKAGE / "testbed" / "recipes"
RECIPE = read_yaml(FOLDER / "recipe.yaml")
ARCHITECTURES = RECIPE["architectures"]
SMOL = read_yaml(FOLDER / "smol.yaml")
MODELS = read_yaml(FOLDER / "models.yaml")
MODEL_NAMES = MODELS["shipped"] + MODELS["others"] + MODELS["smol"]
LLM_ONLY = "-llm"  # end of the name of a model whose tower never met the made-up people
PLAIN = "-plain"  # of one around SmolLM2 that was taught without SmolLM2's own replies
TASKS = [name.removeprefix("testbed/") for name in EMBEDDED]


def name_parts(name: str) -> tuple[str, str, str]:
    """Model, benchmark and kind in the name of an embedded model: of "llava-mllmu/vanilla" they are "llava",
    "mllmu" and "vanilla". A base model has no benchmark: ""."""
    group, kind = name.split("/")
    task = next((task for task in TASKS if group.endswith(f"-{task}")), "")
    return group.removesuffix(f"-{task}") if task else group, task, kind


# As "llava", of "llava-mllmu/vanilla".
EMBEDDED_MODELS = sorted({name_parts(name)[0] for name in MODEL_NAMES if name.endswith("/vanilla")})
