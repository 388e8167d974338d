"""What all commands have in common: after wrong input they print its message alone, and exit with 2."""

import sys
from collections.abc import Callable

from vkdlib.system.paths import RunError


def exit_status(work: Callable[..., int], *arguments) -> int:
    """Do the work of a command.

    Returns:
        what the work returns; 2 if a value is wrong, a file, folder or package cannot be used, or a run is
        damaged.
    """
    try:
        return work(*arguments)
    except (ValueError, OSError, ImportError, RunError) as error:
        print(error, file=sys.stderr)
        return 2
