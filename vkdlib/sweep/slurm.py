"""The points of a sweep that are left, as a SLURM array.

python -m vkdlib.sweep notebooks/sweeps/foundation.yaml --slurm > array.sh
sbatch array.sh                                            # one task a point
python -m vkdlib.sweep notebooks/sweeps/foundation.yaml    # when all have ended: writes the record
"""

import shlex
import sys
from pathlib import Path

from vkdlib.system import paths

SCRIPT = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array={array}
#SBATCH --output={log}
# Add what your cluster wants (--partition, --time, --cpus-per-task, --gpus-per-task=1), here or on sbatch's
# command line. When all tasks have ended, the first command says which points are left, and why they failed;
# the second writes the record, or runs what is left on the machine where it is started:
#   {command} --dry-run
#   {command}
export {places}
points=({points})
{command} --point "${{points[$SLURM_ARRAY_TASK_ID]}}"
"""


def slurm_script(file: Path, names: list[str], folder: Path) -> str:
    """A script for sbatch: one task a point.

    Args:
        file: the sweep.
        names: of the points to do: whoever edits the file later changes none of them.
        folder: of the tasks' logs, one file each.
    """
    return SCRIPT.format(
        name=shlex.quote(file.stem),
        array=f"0-{len(names) - 1}",
        log=shlex.quote(str(folder.absolute() / "slurm-%A_%a.log")),
        command=shlex.join([sys.executable, "-m", "vkdlib.sweep", str(file.absolute())]),
        places=" ".join(f"{name}={shlex.quote(place)}" for name, place in paths.places().items()),
        points=" ".join(names),
    )
