"""Made-up benchmarks are written on first use and kept."""

import os
import shutil
import tempfile
from pathlib import Path

from vkdlib.benchmarks.made_up import authors, profiles
from vkdlib.system import paths
from vkdlib.system.progress import bar

MAKERS = {"mllmu": profiles, "clear": authors}


def benchmark_folder(name: str) -> Path:
    """The folder of a made-up benchmark, "mllmu" or "clear"; makes it (seconds) if it is not there."""
    maker = MAKERS[name]
    folder = paths.cache() / "testbed" / f"{name}-{maker.VERSION}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            maker.write(temporary, lambda people: bar(people, "drawing portraits"))
            os.replace(temporary, folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
