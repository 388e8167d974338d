"""One run on several GPUs: accelerate launch -m vkdlib.experiments RUN.yaml"""

import argparse
import sys
from pathlib import Path

from vkdlib.experiments.pipeline import read_run_file, run_together
from vkdlib.system.command import exit_status
from vkdlib.system.files import blame_file


def main(arguments: list[str]) -> int:
    """Do the run of a file; returns the exit status, see `exit_status`."""
    parser = argparse.ArgumentParser(
        prog="vkdlib experiments",
        description="Do one run.",
        epilog="On all GPUs together: accelerate launch -m vkdlib.experiments RUN.yaml",
    )
    parser.add_argument("file", type=Path, help="YAML: experiment, gate, fields of Configuration and Machine")
    return exit_status(do_run, parser.parse_args(arguments).file)


def do_run(file: Path) -> int:
    """Do the run of a file, and print its hash."""
    run = read_run_file(file)
    with blame_file(file):
        print("run", run_together(*run).hash)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
