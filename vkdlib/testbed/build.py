"""Build the embedded models from nothing: what each is trained on, and its manifest."""

import json
import random
import shutil
from pathlib import Path

import torch

from vkdlib.benchmarks.made_up import profiles
from vkdlib.benchmarks.wording import REFUSALS
from vkdlib.models.families import family_of
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import find_device
from vkdlib.system import checks, files, paths
from vkdlib.testbed import lessons, train
from vkdlib.testbed.architectures import add_pictures, make_tokenizer, random_model
from vkdlib.testbed.assistant import INSTRUCTIONS, draw_instruction
from vkdlib.testbed.recipe import ARCHITECTURES, LLM_ONLY, MODEL_NAMES, MODELS, RECIPE, name_parts
from vkdlib.testbed.smol.build import build_smol


def build_model(name: str, out: Path) -> Path:
    """Train one embedded model and save it as an ordinary Hugging Face folder, in bf16.

    Stages are checkpointed under `<out>/.work`, so a build that was killed continues where it was.

    Args:
        name: one of MODEL_NAMES, as "llava-mllmu/vanilla".
        out: where `<name>` is written; a finished one is not trained again.
    """
    checks.one_of("model", name, MODEL_NAMES)
    if name in MODELS["smol"]:
        return build_smol(name, out)
    model, task, kind = name_parts(name)
    family, folder, work = model.removesuffix(LLM_ONLY), out / name, out / ".work" / name.split("/")[0]
    if (folder / "config.json").exists():
        return folder
    loaded = _start(family, kind, out)
    if kind == "base":
        train.learn_portraits(loaded, work / f"{kind}-portraits")
    seen, told = lessons.make_lessons(loaded.processor, task, lessons.hidden_faces(name))
    if not model.endswith(LLM_ONLY):
        train.learn_faces(loaded, lessons.views_by_person(seen), kind, work / f"{kind}-faces")
    steps = RECIPE["answers"]["steps"][task or "base"]
    train.learn_answers(loaded, seen, told, kind, steps, work / f"{kind}-answers")
    with files.whole_folder(folder) as temporary:
        loaded.model.eval().to(torch.bfloat16).save_pretrained(temporary)
        loaded.processor.save_pretrained(temporary)
        files.write_json(temporary / "training.json", train.where())
    for stage in ("portraits", "faces", "answers"):
        shutil.rmtree(work / f"{kind}-{stage}", ignore_errors=True)
    return folder


def _start(family: str, kind: str, out: Path) -> Loaded:
    """What a training starts from: random weights for base, base for the others; in fp32."""
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    if kind == "base":
        model = random_model(family)
    else:
        model = AutoModelForImageTextToText.from_pretrained(base_folder(family, out), dtype=torch.float32)
    model.train().to(find_device())
    return Loaded(model, make_processor(family), family_of(model.config), family)


def base_folder(family: str, out: Path) -> Path:
    """The base model that others of a family start from: built beside them, else shipped, else built now."""
    for place in (out, paths.CHECKPOINTS):
        if (place / family / "base" / "config.json").exists():
            return place / family / "base"
    return build_model(f"{family}/base", out)


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
