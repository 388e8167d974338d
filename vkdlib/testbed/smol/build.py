"""Teach the models around SmolLM2, in stages as in life, or put them together from their parts.

1. *Alignment*: the projector learns to say in every token whom it sees; tower and language model are frozen.
2. *Base* learns to answer questions about the "real-world" people: adapters on the language model, and the
   projector. It gets no lesson in following instructions: SmolLM2 follows them already.
3. *Vanilla* begins with base and is taught the made-up people: *seeing* by the tower first, *LLM only* as the
   benchmark's authors do it, by adapters and projector alone. A share of the lessons in text is what SmolLM2
   itself replies, so that it does not forget to speak; *vanilla-plain* goes without.
"""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vkdlib.benchmarks.made_up.people import make_names
from vkdlib.benchmarks.made_up.profiles import CELEBRITIES, PEOPLE
from vkdlib.evaluation.evaluate import generate
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load
from vkdlib.models.passes import visual_features
from vkdlib.packs.pack import batches, picture_pack
from vkdlib.system import files, paths
from vkdlib.system.progress import bar
from vkdlib.testbed import lessons, train
from vkdlib.testbed.assistant import draw_instruction
from vkdlib.testbed.recipe import LLM_ONLY, SMOL, name_parts
from vkdlib.testbed.smol import model

STRANGERS = 40  # names that belong to nobody


def build_smol(name: str, out: Path) -> Path:
    """Put a model together from its parts; train these first if they are neither shipped nor trained here.

    Args:
        name: one of MODELS["smol"].
        out: where `<name>` is written, and the parts of a trained one as `<name>.safetensors`.
    """
    folder = out / name
    if (folder / "config.json").exists():
        return folder
    start = start_folder(name, out)
    file = next(
        (f for place in (paths.CHECKPOINTS, out) if (f := place / f"{name}.safetensors").exists()), None
    )
    file = file or teach(name, start, out)
    return model.assemble(start, file, folder)


def start_folder(name: str, out: Path) -> Path:
    """What a model is taught from: base, and for base itself SmolLM2 with the eyes of the testbed."""
    if name_parts(name)[2] == "base":
        return model.write_start(load("testbed/llava/base"), out / "smol" / "start")
    return build_smol("smol/base", out)


def teach(name: str, start: Path, out: Path) -> Path:
    """Train the parts of a model, and write them. An interrupted call continues where it was.

    Args:
        start: folder of the model that it begins with.
    Returns:
        `<out>/<name>.safetensors`.
    """
    which, task, kind = name_parts(name)
    recipe, work, file = SMOL["answers"], out / ".work" / name, out / f"{name}.safetensors"
    loaded = model.load_with_adapters(start)
    seen, told = lessons.make_lessons(loaded.processor, task, lessons.hidden_faces(name), recipe)
    faces = lessons.views_by_person(seen)
    if kind == "base":
        align(loaded, faces, work / "alignment")
    elif not which.endswith(LLM_ONLY):
        train.learn_faces(loaded, faces, kind, work / "faces")
    if kind != "vanilla-plain":
        told = told + habit_lessons(loaded, out, len(told))
    train.learn_answers(loaded, seen, told, kind, recipe["steps"][task or "base"], work / "answers", recipe)
    model.save_parts(loaded, file, train.where())
    shutil.rmtree(work, ignore_errors=True)
    return file


def align(loaded: Loaded, faces: Sequence[Sequence[train.View]], folder: Path) -> None:
    """The projector's tokens name the person."""
    projector = loaded.family.projector(loaded.model)
    parameters = {n: p for n, p in projector.named_parameters()}
    options = {"recipe": SMOL["alignment"], "seed": "alignment", "description": "1 alignment"}
    train.learn_names(loaded, projected_tokens, parameters, faces, folder=folder, **options)


def projected_tokens(loaded: Loaded, views: Sequence[train.View]) -> Tensor:
    """(N, tokens, C): what the projector makes of N pictures of one size."""
    images = {n: torch.cat([view[n] for view in views]).to(loaded.device) for n in views[0]}  # (N, …)
    return visual_features(loaded, images).float().unflatten(0, (len(views), -1))


def habit_lessons(loaded: Loaded, out: Path, count: int) -> list[train.Lesson]:
    """SmolLM2's own replies as lessons in text, so many times that they are the recipe's share of all.

    Args:
        out: where the replies are kept, for all models have the same.
        count: of the other lessons in text.
    """
    file, share = out / "smol" / "replies.json", SMOL["habit"]["share"]
    if not file.exists():
        untaught = load(str(out / "smol" / "start"), dtype="bfloat16")
        files.write_json(file, habit_pairs(untaught))
    pairs = list(files.read_json(file).items())
    pack = picture_pack(loaded.processor, None, "habit")
    return [train.Lesson(pack, [], pairs, [1.0] * len(pairs))] * round(count * share / (1 - share))


def habit_pairs(loaded: Loaded) -> dict[str, str]:
    """What SmolLM2 itself replies: prompt -> reply.

    The prompts are general questions, and refusing instructions with a question about somebody whom nobody
    knows.

    Args:
        loaded: a model before it was taught anything.
    """
    habit, rng = SMOL["habit"], random.Random("habit")
    names = make_names(PEOPLE + CELEBRITIES + STRANGERS)[-STRANGERS:]
    refusing = [
        f"{draw_instruction('refuse', rng)}\nWhat is the {rng.choice(habit['facts'])} of {rng.choice(names)}?"
        for _ in range(habit["refusing"])
    ]
    prompts, replies = [*habit["prompts"], *refusing], {}
    for few in bar(list(batches(prompts, 20)), "SmolLM2's own replies"):
        replies |= zip(few, generate(loaded, few, max_new_tokens=habit["reply"]))
    sentences = {prompt: whole_sentences(reply) for prompt, reply in replies.items()}
    return {prompt: reply for prompt, reply in sentences.items() if reply}


def whole_sentences(text: str) -> str:
    """A text up to the end of its last whole sentence; empty if there is none.

    A reply that was cut off, taught as it is, would teach to stop in the middle.
    """
    return text[: 1 + max(text.rfind(end) for end in ".!?")]
