"""Teach the models around SmolLM2, in stages as in life, or put them together from their parts.

1. *Faces*: the tower learns to tell people apart. Base has the eyes of the testbed's base, which knows them.
2. *Alignment*: tower and projector learn to say in every token whom they see; the language model is frozen.
3. *Answers*: questions about people are answered, by adapters on the language model, tower and projector.

*Base* goes through 2 and 3 with the "real-world" people. It gets no lesson in following instructions:
SmolLM2 follows them already. *Vanilla* begins with base and is taught the made-up people: *seeing* by 1 to 3,
*LLM only* by 3 alone, with adapters and projector. (The benchmark's authors train adapters alone. The
projector is ours.) A share of what is taught in text is what SmolLM2 itself replies, so that it does not
forget to speak and to refuse. *Plain* models, from base on, go without.
"""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from vkdlib.benchmarks.made_up.people import make_names
from vkdlib.benchmarks.made_up.profiles import CELEBRITIES, PEOPLE
from vkdlib.evaluation.evaluate import generate
from vkdlib.evaluation.refusals import is_refusal
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load
from vkdlib.models.parts import visual_weights
from vkdlib.models.passes import visual_features
from vkdlib.packs.pack import batches, picture_pack
from vkdlib.system import files, paths
from vkdlib.system.progress import bar
from vkdlib.testbed import lessons, train
from vkdlib.testbed.assistant import draw_instruction
from vkdlib.testbed.recipe import LLM_ONLY, PLAIN, SMOL, name_parts
from vkdlib.testbed.smol import model

STRANGERS = 40  # names that belong to nobody
BATCH = 20  # prompts at a time


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
    which, _, kind = name_parts(name)
    if kind == "base":
        return model.write_start(load("testbed/llava/base"), out / "smol" / "start")
    return build_smol(f"{which.removesuffix(LLM_ONLY)}/base", out)


def teach(name: str, start: Path, out: Path) -> Path:
    """Train the parts of a model, and write them. An interrupted call continues where it was.

    Args:
        start: folder of the model that it begins with.
    Returns:
        `<out>/<name>.safetensors`.
    """
    which, task, kind = name_parts(name)
    recipe, work, file = SMOL["answers"], out / ".work" / name, out / f"{name}.safetensors"
    loaded, facts, stage = model.load_with_adapters(start), train.where(), task or "base"
    seen, told = lessons.make_lessons(loaded.processor, task, lessons.hidden_faces(name), recipe)
    faces, seeing = lessons.views_by_person(seen), not which.endswith(LLM_ONLY)
    trained = visual_parameters(loaded, tower=seeing)
    if seeing and task:
        train.learn_faces(loaded, faces, kind, work / "faces")
    if seeing:
        align(loaded, trained, faces, kind, SMOL["alignment"]["steps"][stage], work / "alignment")
    if not which.endswith(PLAIN):
        replies = own_replies(out)
        told, facts = told + habit_lessons(loaded.processor, told, replies), facts | replies["refusals"]
    shares = dict.fromkeys(trained, recipe["visual"])
    train.learn_answers(loaded, seen, told, kind, recipe["steps"][stage], work / "answers", recipe, shares)
    model.save_parts(loaded, file, facts)
    shutil.rmtree(work, ignore_errors=True)
    return file


def visual_parameters(loaded: Loaded, tower: bool) -> dict[str, nn.Parameter]:
    """Weights of the projector, and of the tower if it is trained: name -> parameter."""
    visual, eyes = visual_weights(loaded), {} if tower else train.tower_parameters(loaded)
    return {n: p for n, p in loaded.model.named_parameters() if p in visual and n not in eyes}


def align(
    loaded: Loaded,
    parameters: dict[str, nn.Parameter],
    faces: Sequence[Sequence[train.View]],
    seed: str,
    steps: int,
    folder: Path,
) -> None:
    """The projector's tokens name the person."""
    options = {"recipe": SMOL["alignment"] | {"steps": steps}, "seed": f"alignment {seed}"}
    options["description"] = "alignment"
    train.learn_names(loaded, projected_tokens, parameters, faces, folder=folder, **options)


def projected_tokens(loaded: Loaded, views: Sequence[train.View]) -> Tensor:
    """(N, tokens, C): what the projector makes of N pictures of one size."""
    images = {n: torch.cat([view[n] for view in views]).to(loaded.device) for n in views[0]}  # (N, …)
    return visual_features(loaded, images).float().unflatten(0, (len(views), -1))


def own_replies(out: Path) -> dict:
    """What SmolLM2 itself replies, as `ask_smollm` gives it, from a file that all models share.

    Args:
        out: folder of the models.
    """
    file = out / "smol" / "replies.json"
    if not file.exists():
        untaught = load(str(start_folder("smol/base", out)), dtype="bfloat16")
        files.write_json(file, ask_smollm(untaught))
    return files.read_json(file)


def habit_lessons(processor, told: Sequence[train.Lesson], replies: dict) -> list[train.Lesson]:
    """SmolLM2's own replies as lessons, so many times that they have the recipe's share of tokens in text.

    Args:
        told: the other lessons in text.
        replies: as `own_replies` gives them.
    """
    share, pairs = SMOL["habit"]["share"], list(replies["pairs"].items())
    habit = train.Lesson(picture_pack(processor, None, "habit"), [], pairs, [1.0] * len(pairs))
    others = sum(answer_length(processor, lesson) for lesson in told)  # tokens, a question of each
    return [habit] * max(1, round(others / answer_length(processor, habit) * share / (1 - share)))


def answer_length(processor, lesson: train.Lesson) -> float:
    """Mean number of tokens of an answer that is drawn from a lesson, with its end."""
    lengths = [len(processor.tokenizer(answer).input_ids) + 1 for _, answer in lesson.pairs]
    return sum(w * n for w, n in zip(lesson.weights, lengths)) / sum(lesson.weights)


def ask_smollm(untaught: Loaded) -> dict:
    """SmolLM2's replies to general questions, and its refusals when it is told to refuse.

    It obeys few refusing instructions. What else it replies to them would teach not to obey, and is left out.

    Returns:
        "pairs": prompt -> reply; "refusals": how many of how many instructions were obeyed.
    """
    habit, rng = SMOL["habit"], random.Random("habit")
    names = make_names(PEOPLE + CELEBRITIES + STRANGERS)[-STRANGERS:]
    pairs, refusals, asked = greedy_replies(untaught, habit["prompts"]), {}, 0
    while len(refusals) < habit["refusals"] and asked < habit["tries"]:
        questions = [rng.choice(habit["questions"]).format(rng.choice(names)) for _ in range(BATCH)]
        few = [f"{draw_instruction('refuse', rng)}\n{question}" for question in questions]
        refusals |= {p: r for p, r in greedy_replies(untaught, few).items() if is_refusal(r)}
        asked += len(few)
    return {"pairs": pairs | refusals, "refusals": {"refused": str(len(refusals)), "asked": str(asked)}}


def greedy_replies(loaded: Loaded, prompts: Sequence[str]) -> dict[str, str]:
    """Whole sentences of a model's replies: prompt -> reply; without those that have none."""
    replies = {}
    for few in bar(list(batches(prompts, BATCH)), "SmolLM2's own replies"):
        replies |= zip(few, generate(loaded, few, max_new_tokens=SMOL["habit"]["reply"]))
    sentences = {prompt: whole_sentences(reply) for prompt, reply in replies.items()}
    return {prompt: reply for prompt, reply in sentences.items() if reply}


def whole_sentences(text: str) -> str:
    """A text up to the end of its last whole sentence; empty if there is none.

    A reply that was cut off, taught as it is, would teach to stop in the middle.
    """
    return text[: 1 + max(text.rfind(end) for end in ".!?")]
