"""accelerate launch -m vkdlib.vanilla LESSON.yaml: teach a model a benchmark on several GPUs."""

import sys
from pathlib import Path

import yaml

from vkdlib.system import processes
from vkdlib.vanilla.teaching import make

if len(sys.argv) != 2:
    sys.exit("usage: accelerate launch -m vkdlib.vanilla LESSON.yaml (the arguments of `make`)")
processes.start()
print("saved in", make(**yaml.safe_load(Path(sys.argv[1]).read_text())))
