"""One run on several GPUs: accelerate launch -m vkdlib.experiments RUN.yaml"""

import argparse
import sys
from pathlib import Path

from vkdlib.experiments.pipeline import read_run_file, run_together


def main(arguments: list[str]) -> int:
    """Do the run of a file; returns the exit status: 2, after one line, if the file is wrong."""
    parser = argparse.ArgumentParser(
        prog="accelerate launch -m vkdlib.experiments", description="Do one run, on all GPUs together."
    )
    parser.add_argument("file", type=Path, help="YAML: experiment, gate, fields of Configuration and Machine")
    try:
        run = read_run_file(parser.parse_args(arguments).file)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print("run", run_together(*run).hash)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
