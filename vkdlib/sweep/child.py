"""The process that executes notebooks of a sweep by papermill, one after the other; see `point.Worker`.

It takes tasks from stdin, a line of JSON each, and answers a line when a notebook has ended well. All share
one kernel, which is made as new before each. A notebook that fails ends the process, and the kernel with it.
The process ends when its parent is gone, however that ended: a sweep that was killed leaves nothing behind.
"""

import json
import os
import queue
import signal
import sys
import threading

import papermill
from filelock import FileLock

from vkdlib.sweep.kernel import OneKernel
from vkdlib.sweep.point import is_complete, read_notebook

TASKS: queue.SimpleQueue[str] = queue.SimpleQueue()  # lines of stdin


def read_tasks() -> None:
    """Read stdin, whose other end the parent alone holds, until it is closed; then stop the main thread."""
    for line in sys.stdin:
        TASKS.put(line)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


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
    options = dict(engine_name=OneKernel.__name__, kernel_name="python3", cwd=cwd, progress_bar=False)
    options |= dict(start_timeout=600, on_cell_error=add_error)
    before = modification_time(executed)
    with FileLock(executed + ".lock"):
        if modification_time(executed) != before and is_complete(read_notebook(executed)):
            return  # another sweep did it while this one waited
        try:
            papermill.execute_notebook(notebook, executed, parameters, **options)
        except RuntimeError as error:  # what a kernel that died or never answered raises
            print(f"{error}; once more", file=sys.stderr)
            OneKernel.stop()
            papermill.execute_notebook(notebook, executed, parameters, **options)
        except OSError as error:
            sys.exit(f"{executed} could not be written ({error}): make room there, then run again")


def write_to(log: str) -> None:
    """Let all that this process prints from now on go to a file."""
    with open(log, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def main() -> None:
    """Execute notebooks until stdin is closed, or one fails."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    answers = os.fdopen(os.dup(1), "w")
    threading.Thread(target=read_tasks, daemon=True).start()
    task = None
    try:
        while True:
            task = json.loads(TASKS.get())
            write_to(task.pop("log"))
            execute_notebook(**task)
            task = None
            print("done", file=answers, flush=True)
    except KeyboardInterrupt:
        if task:  # else it waited for one
            raise
    finally:
        OneKernel.stop()


if __name__ == "__main__":
    main()
