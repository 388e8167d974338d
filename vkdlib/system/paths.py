"""Where the repository, the runs, the cache and the shipped models are."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHECKPOINTS = PACKAGE / "checkpoints"  # shipped weights of the embedded models


class RunError(RuntimeError):
    """A run's folder is not what its DONE file says."""


def root() -> Path:
    """The folder with notebooks/ and figures/: VKDLIB_ROOT, else the checkout, else the current folder."""
    if "VKDLIB_ROOT" in os.environ:
        return Path(os.environ["VKDLIB_ROOT"])
    checkout = PACKAGE.parent
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def runs() -> Path:
    """Where run folders are kept: VKDLIB_RUNS, or runs/ beside notebooks/."""
    return Path(os.environ.get("VKDLIB_RUNS", root() / "runs"))


def figures() -> Path:
    """Where figures and tables go; their data go to `figures()/data`."""
    return root() / "figures"


def cache_folder() -> Path:
    """The folder for what can be made again: VKDLIB_CACHE, or ~/.cache/vkdlib.

    Raises:
        OSError: nobody knows where the home folder is.
    """
    if "VKDLIB_CACHE" in os.environ:
        return Path(os.environ["VKDLIB_CACHE"])
    try:
        return Path.home() / ".cache" / "vkdlib"
    except RuntimeError as error:
        raise OSError(f"{error} Set HOME, or VKDLIB_CACHE to a folder for models and data") from error


def places() -> dict[str, str]:
    """Variables of the environment with which a process elsewhere finds the same folders."""
    folders = {"VKDLIB_ROOT": root(), "VKDLIB_RUNS": runs(), "VKDLIB_CACHE": cache_folder()}
    return {name: str(folder.absolute()) for name, folder in folders.items()}
