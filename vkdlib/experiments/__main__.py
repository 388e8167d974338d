"""accelerate launch -m vkdlib.experiments POINT.yaml: one point on several GPUs."""

import sys
from pathlib import Path

import yaml

from vkdlib.experiments.point import launched

if len(sys.argv) != 2:
    sys.exit("usage: accelerate launch -m vkdlib.experiments POINT.yaml (the arguments of `run`)")
print("run", launched(yaml.safe_load(Path(sys.argv[1]).read_text())).hash)
