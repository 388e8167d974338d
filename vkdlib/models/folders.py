"""Where a model's files are, and what they are known by."""

import hashlib
import json
import re
from pathlib import Path

from vkdlib.benchmarks.made_up.cache import VERSIONS
from vkdlib.system import checks, paths
from vkdlib.system.files import file_hash, read_yaml

TESTBED = paths.PACKAGE / "testbed"
HUB_ID = re.compile(r"[A-Za-z0-9_-][\w.-]*/[\w.-]+", re.ASCII)  # owner/name


def short_name(name: str) -> str:
    """A model's or benchmark's name as others may read it: an embedded one's or an id of the Hub as it is; of
    a folder its own name, without the place on this machine."""
    return name if name.startswith("testbed/") or is_hub_id(name) else Path(name).name


def is_hub_id(name: str) -> bool:
    """Whether a name is owner/name, and no folder or file here."""
    return bool(HUB_ID.fullmatch(name)) and not Path(name).exists()


def model_folder(name: str, revision: str | None = None) -> str:
    """Path of an embedded model, or the name itself: a folder or a Hub id.

    Raises:
        FileNotFoundError: there is no such folder, or the embedded model is not trained yet.
        ValueError: there is no such embedded model; a revision of what is not on the Hub; no name.
    """
    checks.text("model", name)
    embedded, folder = name.startswith("testbed/"), Path(name)
    if revision and (embedded or folder.is_dir()):
        raise ValueError(
            f"revision is {revision!r}, a commit on the Hub; the model {name} is not from there: leave it out"
        )
    if embedded:
        return str(_embedded_folder(name))
    if folder.is_file():
        raise FileNotFoundError(f"model {name} is a file: name the folder that it is in")
    if not folder.is_dir() and not HUB_ID.fullmatch(name):
        raise FileNotFoundError(f"model {name}: there is no such folder, and an id of the Hub is owner/name")
    return name


def _embedded_folder(name: str) -> Path:
    """Folder of a shipped model, or of one that was trained here."""
    models = read_yaml(TESTBED / "recipes" / "models.yaml")
    checks.one_of("model", name, [f"testbed/{m}" for names in models.values() for m in names])
    model = name.removeprefix("testbed/")
    for place in (paths.CHECKPOINTS / model, cached_models(model in models["smol"]) / model):
        if (place / "config.json").exists():
            return place
    raise FileNotFoundError(
        f"{name} is not shipped, and not trained here yet: `python -m vkdlib.testbed build --only {model}`"
    )


def cached_models(smol: bool = False) -> Path:
    """Where embedded models that are not shipped are kept: another folder for another recipe or other data.

    Args:
        smol: those around SmolLM2, which have a recipe of their own beside the others'.

    The text of the modules that make them is not what a model is made of. The recipe's `edition` tells of
    changes in them that change a model.
    """
    facts = {"recipe": read_yaml(TESTBED / "recipes" / "recipe.yaml"), "benchmarks": VERSIONS}
    facts |= {"smol": read_yaml(TESTBED / "recipes" / "smol.yaml")} if smol else {}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return paths.cache_folder() / "models" / digest[:12]


def check_shipped(name: str, folder: str) -> None:
    """Raise ValueError if a file of an embedded model is not that of the manifest beside it."""
    manifest = Path(folder).parent.parent / "manifest.json"
    if not name.startswith("testbed/") or not manifest.exists():
        return
    facts = json.loads(manifest.read_text())["models"].get(name.removeprefix("testbed/"), {})
    for file, digest in facts.get("files", {}).items():
        if not Path(folder, file).exists() or file_hash(Path(folder, file)) != digest:
            raise ValueError(
                f"model {name}: {folder}/{file} is not the file of {manifest}; restore it, or train the "
                f"model again with `python -m vkdlib.testbed build`"
            )


def files_hash(name: str) -> str:
    """sha256 of a model's weight files, without loading them; of its name if it is on the Hub."""
    parts = [file_hash(f) for f in sorted(Path(model_folder(name)).glob("*.safetensors"))] or [name]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def processor_hash(folder: str) -> str:
    """sha256 of all files of a model's folder but the weights: its processor, tokenizer, chat template."""
    digest = hashlib.sha256()
    for file in sorted(f for f in Path(folder).iterdir() if f.is_file() and f.suffix != ".safetensors"):
        digest.update(f"{file.name} {file_hash(file)} ".encode())
    return digest.hexdigest()
