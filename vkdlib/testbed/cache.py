"""Made-up benchmarks are written on first use and kept."""

import os
import shutil
import tempfile
from pathlib import Path

from vkdlib import paths
from vkdlib.progress import bar
from vkdlib.testbed import benchmark


def mllmu_folder() -> Path:
    """The folder of the made-up MLLMU-Bench; makes it (a few seconds) if it is not there."""
    folder = paths.cache() / "testbed" / f"mllmu-{benchmark.VERSION}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            benchmark.write(temporary, lambda people: bar(people, "drawing portraits"))
            os.replace(temporary, folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
