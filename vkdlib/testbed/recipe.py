"""The numbers by which the embedded models are made, and which models there are."""

from vkdlib.system import paths
from vkdlib.system.files import read_yaml

RECIPE = read_yaml(paths.PACKAGE / "testbed" / "recipe.yaml")
ARCHITECTURES = RECIPE["architectures"]
MODELS = read_yaml(paths.PACKAGE / "testbed" / "models.yaml")
MODEL_NAMES = MODELS["shipped"] + MODELS["others"]
# As "llava", of "llava-mllmu/vanilla".
EMBEDDED_MODELS = sorted({n.rsplit("-", 1)[0] for n in MODEL_NAMES if n.endswith("/vanilla")})
LLM_ONLY = "-llm"  # end of the name of a model whose tower never met the made-up people
