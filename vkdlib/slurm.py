"""The points of a sweep that are left, as a SLURM array: python -m vkdlib.sweep FILE --slurm > array.sh"""

import shlex
import sys
from pathlib import Path

from vkdlib import paths

SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array={array}
#SBATCH --output={log}
# Add what your cluster wants (--partition, --time, --cpus-per-task, --gpus-per-task=1), here or on sbatch's
# command line. When all have ended, this writes the record, or says which points failed:
#   {command}
export {places}
{command} --point "$SLURM_ARRAY_TASK_ID"
"""


def script(file: Path, left: list[int], folder: Path) -> str:
    """A script for sbatch: one task a point.

    Args:
        file: the sweep.
        left: numbers of the points to do.
        folder: for what the tasks say, one file each.
    """
    command = shlex.join([sys.executable, "-m", "vkdlib.sweep", str(file.absolute())])
    places = " ".join(f"{name}={shlex.quote(place)}" for name, place in paths.places().items())
    log = shlex.quote(str(folder.absolute() / "slurm-%A_%a.log"))
    return SCRIPT.format(name=file.stem, array=ranges(left), log=log, command=command, places=places)


def ranges(numbers: list[int]) -> str:
    """Rising numbers as SLURM has them: 0,3,7-11."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in spans)
