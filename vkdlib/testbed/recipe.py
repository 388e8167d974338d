"""The numbers by which the embedded models are made, and which models there are."""

from vkdlib.system import paths
from vkdlib.system.files import read_yaml

RECIPE = read_yaml(paths.PACKAGE / "testbed" / "recipe.yaml")
ARCHITECTURES = RECIPE["architectures"]
MODELS = read_yaml(paths.PACKAGE / "testbed" / "models.yaml")
