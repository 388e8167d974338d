"""Teach a model a benchmark on several GPUs: accelerate launch -m vkdlib.vanilla LESSON.yaml"""

import argparse
import inspect
import sys
from dataclasses import fields
from pathlib import Path

from vkdlib.system import checks, processes
from vkdlib.system.command import exit_status
from vkdlib.system.files import blame_file, read_yaml
from vkdlib.vanilla.recipes import Recipe
from vkdlib.vanilla.teaching import make_model


def read_lesson(file: Path) -> dict:
    """Arguments of `make_model` from a file.

    Raises:
        ValueError: it is not YAML, has an unknown argument, or lacks one.
    """
    lesson, parameters = read_yaml(file), dict(inspect.signature(make_model).parameters)
    del parameters["changes"]
    checks.check_names(str(file), lesson, [*parameters, *(f.name for f in fields(Recipe))])
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in lesson]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing)}")
    return lesson


def main(arguments: list[str]) -> int:
    """Make the model of a file; returns the exit status, see `exit_status`."""
    parser = argparse.ArgumentParser(
        prog="vkdlib vanilla",
        description="Teach a model a benchmark.",
        epilog="On all GPUs: accelerate launch -m vkdlib.vanilla LESSON.yaml",
    )
    parser.add_argument("lesson", type=Path, help="YAML file: the arguments of vanilla.teaching.make_model")
    return exit_status(do_lesson, parser.parse_args(arguments).lesson)


def do_lesson(file: Path) -> int:
    """Make the model of a file, and print where it is."""
    lesson = read_lesson(file)
    processes.join_group()
    with blame_file(file):
        print("saved in", make_model(**lesson))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
