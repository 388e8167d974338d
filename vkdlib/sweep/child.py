"""The process that executes one notebook of a sweep by papermill; see `points.Point.execute`.

It ends when its parent is gone, however that ended: nothing is left behind by a sweep that was killed.
"""

import json
import os
import signal
import sys
import threading

import papermill
from filelock import FileLock


def end_with_parent() -> None:
    """Wait for the other end of stdin, which the parent alone holds, to be closed."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)


def written(executed: str) -> int | None:
    """When a file was written last; None if it is not there."""
    return os.stat(executed).st_mtime_ns if os.path.exists(executed) else None


def failed(executed: str) -> bool:
    """Whether an executed notebook did not come to its end."""
    import nbformat

    try:
        made = nbformat.read(executed, 4).metadata.papermill
    except (AttributeError, ValueError, OSError):
        return True
    return bool(made.get("exception", True)) or not made.get("end_time")


def keep_error(cell: dict, cell_index: int, execute_reply: dict) -> None:
    """The answer to a cell that failed says why, too, whatever became of the kernel's own message."""
    from nbformat.v4 import new_output

    if not any(output.output_type == "error" for output in cell.outputs):
        said = {key: execute_reply["content"][key] for key in ("ename", "evalue", "traceback")}
        cell.outputs.append(new_output("error", **said))


def execute(notebook: str, executed: str, cwd: str, parameters: dict) -> None:
    """Execute a notebook, one process at a time; keep what it got to, also of one that failed.

    A kernel now and then dies before its first cell, above all when several start at once: then once more.

    Raises:
        SystemExit: it could not be written. What is said is short: the disk is the log's, too.
    """
    options = dict(kernel_name="python3", cwd=cwd, progress_bar=False)
    options |= dict(start_timeout=600, on_cell_error=keep_error)
    before = written(executed)
    with FileLock(executed + ".lock"):
        if written(executed) != before and not failed(executed):
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
    execute(**json.loads(sys.argv[1]))
