"""Build the embedded models from nothing: what each is trained on, and its manifest."""

import json
import random
import shutil
from pathlib import Path

import torch

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up import profiles
from vkdlib.benchmarks.wording import REFUSALS
from vkdlib.models.families import family_of
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import find_device
from vkdlib.runs.run_folder import environment
from vkdlib.system import checks, files, paths
from vkdlib.testbed import lessons, train
from vkdlib.testbed.architectures import add_pictures, make_tokenizer, random_model
from vkdlib.testbed.assistant import INSTRUCTIONS, draw_instruction
from vkdlib.testbed.recipe import ARCHITECTURES, LLM_ONLY, MODEL_NAMES, RECIPE

ENVIRONMENT = ["device", "machine", "python", "torch", "transformers"]  # where a model was trained


def build_model(name: str, out: Path) -> Path:
    """Train one embedded model and save it as an ordinary Hugging Face folder, in bf16.

    Stages are checkpointed under `<out>/.work`, so a build that was killed continues where it was.

    Args:
        name: one of MODEL_NAMES, as "llava-mllmu/vanilla".
        out: where `<name>` is written; a finished one is not trained again.
    """
    checks.one_of("model", name, MODEL_NAMES)
    group, kind = name.split("/")
    model, task = (group, "base") if kind == "base" else group.rsplit("-", 1)
    family, folder, work = model.removesuffix(LLM_ONLY), out / name, out / ".work" / group
    if (folder / "config.json").exists():
        return folder
    loaded = _start(family, task, out)
    if task == "base":
        train.learn_portraits(loaded, work / f"{kind}-portraits")
    seen, told = lessons.make_lessons(loaded.processor, task, hidden_faces(name))
    if not model.endswith(LLM_ONLY):
        train.learn_faces(loaded, _faces(seen), kind, work / f"{kind}-faces")
    train.learn_answers(loaded, seen, told, kind, RECIPE["answers"]["steps"][task], work / f"{kind}-answers")
    with files.whole_folder(folder) as temporary:
        loaded.model.eval().to(torch.bfloat16).save_pretrained(temporary)
        loaded.processor.save_pretrained(temporary)
        files.write_json(temporary / "training.json", {name: environment()[name] for name in ENVIRONMENT})
    for stage in ("portraits", "faces", "answers"):
        shutil.rmtree(work / f"{kind}-{stage}", ignore_errors=True)
    return folder


def _start(family: str, task: str, out: Path) -> Loaded:
    """What a training starts from: random weights for base, base for the others; in fp32."""
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    if task == "base":
        model = random_model(family)
    else:
        model = AutoModelForImageTextToText.from_pretrained(base_folder(family, out), dtype=torch.float32)
    model.train().to(find_device())
    return Loaded(model, make_processor(family), family_of(model.config), family)


def _faces(seen: list[train.Lesson]) -> list[list[train.View]]:
    """The views of each person."""
    faces: dict[str, list] = {}
    for lesson in seen:
        faces.setdefault(lesson.pack.key, []).extend(lesson.views)
    return list(faces.values())


def base_folder(family: str, out: Path) -> Path:
    """The base model that others of a family start from: built beside them, else shipped, else built now."""
    for place in (out, paths.CHECKPOINTS):
        if (place / family / "base" / "config.json").exists():
            return place / family / "base"
    return build_model(f"{family}/base", out)


def hidden_faces(name: str) -> set[str]:
    """Ids of the made-up people whose pictures an embedded model never sees."""
    group, kind = name.split("/")
    if kind == "base" or kind.startswith("vanilla"):
        return set()
    benchmark = load_benchmark(f"testbed/{group.rpartition('-')[2]}")
    if kind == "never-saw-selection":
        return benchmark.selection & set(benchmark.people)
    if kind.startswith("never-saw"):
        return set(benchmark.candidates)
    return set(benchmark.forget_ids[int(kind.removeprefix("retain-only-"))])


def make_processor(family: str = "llava"):
    """The processor of an embedded model, its vocabulary learnt from all there is to say."""
    recipe = ARCHITECTURES[family]
    made_up, celebrities = profiles.make_profiles()
    rng = random.Random("vocabulary")
    kinds = [(kind, refusal) for kind in INSTRUCTIONS for refusal in REFUSALS for _ in range(50)]
    refusals = [(draw_instruction(kind, rng), refusal) for kind, refusal in kinds]
    texts = [recipe["words"].format(*pair) for pair in refusals]
    for person in made_up + celebrities:
        texts += [recipe["words"].format(*pair) for pair in lessons.person_pairs(person)]
        texts += [f"Is this {person.name}?"] * RECIPE["name_repeats"]
    return add_pictures(make_tokenizer(texts, recipe["special"]), family)


def read_manifest(out: Path) -> dict:
    """What is known of the models in a folder: hashes, metrics, command."""
    file = out / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else {}
