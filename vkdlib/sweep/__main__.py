"""python -m vkdlib.sweep FILE: run all points of a sweep (see `execute`)."""

import sys

from vkdlib.sweep.execute import main

sys.exit(main(sys.argv[1:]))
