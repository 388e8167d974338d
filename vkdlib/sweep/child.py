"""The process that executes one notebook of a sweep by papermill; see `Point.execute`.

It ends when its parent is gone, however that ended: a sweep that was killed leaves nothing behind.
"""

import json
import os
import signal
import sys
import threading

import papermill
from filelock import FileLock

from vkdlib.sweep.point import is_complete, read_notebook


def end_with_parent() -> None:
    """Wait until the other end of stdin, which the parent alone holds, is closed; then stop."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)


def modification_time(file: str) -> int | None:
    """When a file was written last; None if it is not there."""
    return os.stat(file).st_mtime_ns if os.path.exists(file) else None


def add_error(cell: dict, cell_index: int, execute_reply: dict) -> None:
    """Give a cell that failed the error in the kernel's reply, should the kernel's own message be lost."""
    from nbformat.v4 import new_output

    if not any(output.output_type == "error" for output in cell.outputs):
        error = {key: execute_reply["content"][key] for key in ("ename", "evalue", "traceback")}
        cell.outputs.append(new_output("error", **error))


def execute_notebook(notebook: str, executed: str, cwd: str, parameters: dict) -> None:
    """Execute a notebook, one process at a time; keep what it came to, also if it fails.

    A kernel now and then dies before its first cell, above all when several start at once: it gets a second
    try.

    Raises:
        SystemExit: it could not be written. The message is short: the log is on the same disk.
    """
    options = dict(kernel_name="python3", cwd=cwd, progress_bar=False)
    options |= dict(start_timeout=600, on_cell_error=add_error)
    before = modification_time(executed)
    with FileLock(executed + ".lock"):
        if modification_time(executed) != before and is_complete(read_notebook(executed)):
            return  # another sweep did it while this one waited
        try:
            papermill.execute_notebook(notebook, executed, parameters, **options)
        except RuntimeError as error:  # what a kernel that died or never answered raises
            print(f"{error}; once more", file=sys.stderr)
            papermill.execute_notebook(notebook, executed, parameters, **options)
        except OSError as error:
            sys.exit(f"{executed} could not be written ({error}): make room there, then run again")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    threading.Thread(target=end_with_parent, daemon=True).start()
    execute_notebook(**json.loads(sys.argv[1]))
