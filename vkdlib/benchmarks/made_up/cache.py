"""A cache of the made-up benchmarks, which are written on first use."""

import functools
import os
import tempfile
from pathlib import Path

from vkdlib.benchmarks.made_up.authors import write_clear
from vkdlib.benchmarks.made_up.profiles import write_mllmu
from vkdlib.system import paths
from vkdlib.system.files import make_folder
from vkdlib.system.progress import bar

VERSIONS = {"mllmu": "2", "clear": "3"}  # raise when anything beside this file changes the files
# "mllmu-100" has the first hundred people of "mllmu", for models that take longer to teach.
WRITERS = {"mllmu": write_mllmu, "clear": write_clear, "mllmu-100": functools.partial(write_mllmu, count=100)}


def benchmark_folder(name: str) -> Path:
    """The folder of a made-up benchmark, one of WRITERS; makes it (seconds) if it is not there."""
    version = VERSIONS[name.partition("-")[0]]
    folder = paths.cache_folder() / "testbed" / f"{name}-{version}"
    if not folder.exists():
        make_folder(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            WRITERS[name](Path(temporary, name), lambda people: bar(people, "drawing portraits"))
            try:
                os.replace(Path(temporary, name), folder)
            except OSError:
                if not folder.exists():  # else another process was faster
                    raise
    return folder
