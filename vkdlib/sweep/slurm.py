"""The points of a sweep that are left, as a SLURM array: python -m vkdlib.sweep FILE --slurm > array.sh"""

import shlex
import sys
from pathlib import Path

from vkdlib.system import paths

SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array={array}
#SBATCH --output={log}
# Add what your cluster wants (--partition, --time, --cpus-per-task, --gpus-per-task=1), here or on sbatch's
# command line. When all have ended, the first of these says which points are left, and why they failed; the
# second writes the record, or else runs what is left where it is started:
#   {command} --dry-run
#   {command}
export {places}
points=({points})
{command} --point "${{points[$SLURM_ARRAY_TASK_ID]}}"
"""


def script(file: Path, left: list[str], folder: Path) -> str:
    """A script for sbatch: one task a point.

    Args:
        file: the sweep.
        left: names of the points to do: whoever edits the file later changes none of them.
        folder: for what the tasks say, one file each.
    """
    command = shlex.join([sys.executable, "-m", "vkdlib.sweep", str(file.absolute())])
    places = " ".join(f"{name}={shlex.quote(place)}" for name, place in paths.places().items())
    log = shlex.quote(str(folder.absolute() / "slurm-%A_%a.log"))
    array, points = f"0-{len(left) - 1}", " ".join(left)
    return SCRIPT.format(name=file.stem, array=array, log=log, command=command, places=places, points=points)
