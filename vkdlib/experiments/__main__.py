"""One point on several GPUs: accelerate launch -m vkdlib.experiments POINT.yaml"""

import argparse
import sys
from pathlib import Path

from vkdlib.experiments.pipeline import check_run, read_run_file, run_together
from vkdlib.system.files import read_yaml


def main(arguments: list[str]) -> int:
    """Do the run of a file; returns the exit status: 2, after one line, if the file is wrong."""
    parser = argparse.ArgumentParser(
        prog="accelerate launch -m vkdlib.experiments", description="Do one run, on all GPUs together."
    )
    parser.add_argument("point", type=Path, help="YAML file: fields of Configuration and Machine")
    file = parser.parse_args(arguments).point
    try:
        experiment, configuration, machine, gate = read_run_file(read_yaml(file))
        check_run(experiment, configuration, gate)
    except ValueError as error:
        print(error if str(error).startswith(str(file)) else f"{file}: {error}", file=sys.stderr)
        return 2
    print("run", run_together(experiment, configuration, machine, gate).hash)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
