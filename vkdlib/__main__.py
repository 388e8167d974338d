"""vkdlib, or python -m vkdlib: what can be done from the command line."""

import argparse
import runpy
import sys

import vkdlib
from vkdlib.system.checks import one_of
from vkdlib.system.command import exit_status

COMMANDS = {
    "sweep": "run all points of a sweep: a table or a figure",
    "experiments": "do one run of a YAML file, on all GPUs together",
    "vanilla": "teach a base model a benchmark, on all GPUs together",
    "testbed": "train the embedded models",
    "notebooks": "copy notebooks and sweeps to a folder of your own",
}


def main(arguments: list[str]) -> int:
    """Do a sub-command; returns the exit status, see `exit_status`."""
    lines = "\n".join(f"  {name:12} {what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="vkdlib",
        usage="%(prog)s [-h] [--version] COMMAND ...",
        description="Unlearning a person's face in multimodal LLMs.",
        epilog=f"commands (each has --help):\n{lines}\n\nIn Python: {', '.join(vkdlib.__all__)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=vkdlib.__version__)
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments[:1])
    if options.command is None:
        parser.print_help()
        return 0
    return exit_status(do_command, options.command, arguments[1:])


def do_command(name: str, arguments: list[str]) -> int:
    """Run the module of a sub-command, as `python -m vkdlib.<name>` does."""
    one_of("command", name, COMMANDS)
    sys.argv = [f"vkdlib {name}", *arguments]
    runpy.run_module(f"vkdlib.{name}", run_name="__main__", alter_sys=True)
    return 0


def script() -> int:
    """The command `vkdlib`."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
