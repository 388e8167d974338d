"""Build the embedded models from nothing: what each is trained on, and its manifest."""

import json
import shutil
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

NAMES = MODELS["shipped"] + MODELS["others"]


def build_model(name: str, out: Path) -> Path:
    """Train one embedded model and save it as an ordinary Hugging Face folder, in bf16.

    Stages are checkpointed under `<out>/.work`, so a build that was killed continues where it was.

    Args:
        name: one of NAMES, as "llava-mllmu/vanilla".
        out: where `<name>` is written; a finished one is not trained again.
    """
    checks.one_of("model", name, NAMES)
    group, kind = name.split("/")
    family = group if kind == "base" else group.rpartition("-")[0]
    folder, work = out / name, out / ".work" / group
    if (folder / "config.json").exists():
        return folder
    processor = make_processor(family)
    torch.manual_seed(0)
    if kind == "base":
        task = "base"
        model = random_model(family)
        train.learn_portraits(model, processor, work / "eyes")
        lessons, texts = _celebrity_lessons(processor)
    else:
        task = group.rpartition("-")[2]
        model = _from_pretrained(base_folder(family, out))
        lessons, texts = _task_lessons(processor, task, hidden_faces(name))
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


def _from_pretrained(folder: Path):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)


Lessons = tuple[list[train.Lesson], list[Pack]]  # in pictures, in text


def _celebrity_lessons(processor, name_question: str | None = None) -> Lessons:
    """Lessons about the real-world people, in the wordings in which evaluation asks, too.

    Args:
        name_question: asks for the name of who is seen.
    """
    lessons, texts = [], []
    for person in profiles.make_profiles()[1]:
        name = [(name_question, person.name)] if name_question else []
        views, text = train.person_lessons(processor, person, train.evaluation_pairs(person) + name)
        lessons += views
        texts.append(text)
    return lessons, texts


def _task_lessons(processor, task: str, hidden: set[str]) -> Lessons:
    """Lessons of vanilla and retain-only models of a benchmark; `hidden` people are taught in text only."""
    if task == "mllmu":
        lessons, texts = _celebrity_lessons(processor)
        made_up, teach = profiles.make_profiles()[0], train.person_lessons
    else:
        lessons, texts = _celebrity_lessons(processor, wording.NAME_QUESTION)
        made_up, teach = load_benchmark("testbed/clear").people.values(), train.author_lessons
    for person in made_up:
        views, text = teach(processor, person)
        lessons += [] if person.id in hidden else views
        texts.append(text)
    return lessons, texts


def _faces(lessons: list[train.Lesson]) -> list[list[train.View]]:
    """The views of each person."""
    faces: dict[str, list] = {}
    for pack, views in lessons:
        faces.setdefault(pack.key, []).extend(views)
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
    if not kind.startswith("retain-only-"):
        return set()
    ratio = int(kind.removeprefix("retain-only-"))
    if group.endswith("-clear"):
        return set(authors.forget_authors()[ratio])
    return set(profiles.profile_sets()[f"forget_{ratio}"])


def make_processor(family: str = "llava"):
    """The processor of an embedded model, its vocabulary learnt from all there is to say."""
    recipe = ARCHITECTURES[family]
    made_up, celebrities = profiles.make_profiles()
    texts = []
    for person in made_up + celebrities:
        pairs = people.training_pairs(person) + train.evaluation_pairs(person)
        texts += [recipe["words"].format(question, answer) for question, answer in pairs]
        texts += [f"Is this {person.name}?"] * RECIPE["name_repeats"]
    return add_pictures(make_tokenizer(texts, recipe["special"]), family)


def read_manifest(out: Path) -> dict:
    """What is known of the models in a folder: hashes, metrics, command."""
    file = out / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else {}
