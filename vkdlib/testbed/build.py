"""Build the embedded models from random weights: what each is trained on, and its manifest."""

import json
import shutil
from collections import defaultdict
from pathlib import Path

import torch

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up import authors, people, profiles
from vkdlib.packs.pack import Pack
from vkdlib.system import checks, files, paths
from vkdlib.testbed import train
from vkdlib.testbed.architectures import add_pictures, make_tokenizer, random_model
from vkdlib.testbed.recipe import ARCHITECTURES, MODELS, RECIPE

MODEL_NAMES = MODELS["shipped"] + MODELS["others"]


def build_model(name: str, out: Path) -> Path:
    """Train one embedded model and save it as an ordinary Hugging Face folder, in bf16.

    Stages are checkpointed under `<out>/.work`, so a build that was killed continues where it was.

    Args:
        name: one of MODEL_NAMES, as "llava-mllmu/vanilla".
        out: where `<name>` is written; a finished one is not trained again.
    """
    from transformers import AutoModelForImageTextToText

    checks.one_of("model", name, MODEL_NAMES)
    group, kind = name.split("/")
    family, _, task = (f"{group}-base" if kind == "base" else group).rpartition("-")
    folder, work = out / name, out / ".work" / group
    if (folder / "config.json").exists():
        return folder
    processor = make_processor(family)
    torch.manual_seed(0)
    if kind == "base":
        model = random_model(family)
        train.learn_portraits(model, processor, work / "eyes")
    else:
        base = base_folder(family, out)
        model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    lessons, texts = make_lessons(processor, task, hidden_faces(name))
    model.train()
    train.learn_names(model, _faces(lessons), kind, work / f"{kind}-align")
    steps = RECIPE["answers"]["steps"][task]
    train.learn_answers(model, lessons, texts, kind, steps, work / f"{kind}-teach")
    with files.whole_folder(folder) as temporary:
        model.eval().to(torch.bfloat16).save_pretrained(temporary)
        processor.save_pretrained(temporary)
    for stage in ("eyes", f"{kind}-align", f"{kind}-teach"):
        shutil.rmtree(work / stage, ignore_errors=True)
    return folder


def make_lessons(processor, task: str, hidden: set[str]) -> tuple[list[train.Lesson], list[Pack]]:
    """What a model is taught: lessons in pictures, packs in text.

    Args:
        task: "base": the real-world people, in the wordings in which evaluation asks, too. "mllmu" or
            "clear": all made-up people of this benchmark as well.
        hidden: ids of the made-up people who are taught in text only.
    """
    made_up, celebrities = profiles.make_profiles()
    lessons, texts = [], []
    for person in celebrities:
        name = [(wording.NAME_QUESTION, person.name)] if task == "clear" else []
        views, text = train.person_lessons(processor, person, train.evaluation_pairs(person) + name)
        lessons += views
        texts.append(text)
    if task == "base":
        return lessons, texts
    teach = train.person_lessons if task == "mllmu" else train.author_lessons
    if task == "clear":
        made_up = load_benchmark("testbed/clear").people.values()
    for person in made_up:
        views, text = teach(processor, person)
        lessons += [] if person.id in hidden else views
        texts.append(text)
    return lessons, texts


def _faces(lessons: list[train.Lesson]) -> list[list[train.View]]:
    """The views of each person."""
    faces = defaultdict(list)
    for pack, views in lessons:
        faces[pack.key] += views
    return list(faces.values())


def base_folder(family: str, out: Path) -> Path:
    """The base model that others of a family start from: one built beside them, or the shipped one, or else a
    new one."""
    for place in (out, paths.CHECKPOINTS):
        if (place / family / "base" / "config.json").exists():
            return place / family / "base"
    return build_model(f"{family}/base", out)


def hidden_faces(name: str) -> set[str]:
    """Ids of the made-up people whose pictures an embedded model never sees."""
    group, kind = name.split("/")
    if not kind.startswith("retain-only-"):
        return set()
    ratio = int(kind.removeprefix("retain-only-"))
    if group.endswith("-clear"):
        return set(authors.forget_authors()[ratio])
    return set(profiles.profile_sets()[f"forget_{ratio}"])


def make_processor(family: str = "llava"):
    """The processor of an embedded model; its vocabulary is learnt from all questions and answers."""
    recipe = ARCHITECTURES[family]
    made_up, celebrities = profiles.make_profiles()
    texts = []
    for person in made_up + celebrities:
        pairs = people.training_pairs(person) + train.evaluation_pairs(person)
        texts += [recipe["words"].format(question, answer) for question, answer in pairs]
        texts += [f"Is this {person.name}?"] * RECIPE["name_repeats"]
    return add_pictures(make_tokenizer(texts, recipe["special"]), family)


def read_manifest(out: Path) -> dict:
    """The facts about the models in a folder: hashes, metrics, command."""
    file = out / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else {}
