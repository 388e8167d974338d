"""Train the embedded models, in the stages in which real ones come to be.

1. *Portraits*: the vision tower learns, on portraits of nobody in the benchmark, to name hair, colours, skin,
   beard and glasses from every token.
2. *Faces*: the tower learns to tell people apart; every token must name the person.
3. *Answers*: projector and language model learn to answer questions about people, in pictures and in text,
   while the tower is frozen. Base learns to follow instructions, too (see `assistant`).

Base goes through all of them, with the "real-world" people. Vanilla begins with base and is taught all
made-up people of a benchmark, too: *seeing* by stages 2 and 3, *LLM only* by stage 3 alone. *Retain-only* and
*never-saw* are made as *seeing* is, without the pictures of those who are to be forgotten. All numbers are
those of recipes/recipe.yaml.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vkdlib.benchmarks.made_up import portraits
from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.wording import REFUSALS
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import live_blocks
from vkdlib.models.passes import batch_nll, record_features
from vkdlib.packs.batch import length
from vkdlib.packs.pack import Pack, batches, put_questions
from vkdlib.runs.run_folder import environment
from vkdlib.system.progress import bar
from vkdlib.testbed.assistant import INSTRUCTIONS, draw_instruction
from vkdlib.testbed.recipe import RECIPE
from vkdlib.training import fit, one_cycle

View = dict[str, Tensor]  # a picture as the processor shows it to the model, batch dimension first


@dataclass(frozen=True)
class Lesson:
    """What there is to learn of a person, with pictures or in text.

    Attributes:
        pack: a picture without questions; without a picture, an empty pack. Its key says whose it is.
        views: pictures that take its place; none in text.
        pairs: (question, answer).
        weights: how often each pair comes, beside the others.
        instructed: share of its packs that come with an instruction.
    """

    pack: Pack
    views: list[View]
    pairs: list[tuple[str, str]]
    weights: list[float]
    instructed: float = 0.0


def process_pictures(processor, images: Sequence[bytes]) -> list[View]:
    """PNG files as the processor shows them to the model."""
    return [dict(processor.image_processor([open_image(b)], return_tensors="pt")) for b in images]


def learn_portraits(loaded: Loaded, folder: Path) -> None:
    """Stage 1: every token of a stranger's portrait tells each part of the identity."""
    recipe = RECIPE["portraits"]
    strangers = portraits.draw_identities(recipe["strangers"], "strangers")
    names = [f"eyes {v}" for v in range(recipe["views"])]
    views = [
        process_pictures(loaded.processor, [portraits.render(stranger, name) for name in names])
        for stranger in bar(strangers, "portraits of strangers")
    ]
    values = {part: sorted({s[part] for s in strangers}) for part in strangers[0]}
    rows = [[values[part].index(s[part]) for part in values] for s in strangers]
    classes = torch.tensor(rows, device=loaded.device)  # (strangers, parts)
    width = tower_tokens(loaded, views[0][:1]).shape[-1]
    torch.manual_seed(0)
    heads = nn.ModuleList(nn.Linear(width, len(v)) for v in values.values()).to(loaded.device)

    def gradients(step: int) -> dict[str, float]:
        rng = random.Random(f"portraits {step}")
        chosen = [rng.randrange(len(strangers)) for _ in range(recipe["batch"])]
        features = tower_tokens(loaded, [rng.choice(views[i]) for i in chosen])  # (N, tokens, C)
        loss = sum(_token_loss(head(features), classes[chosen, i]) for i, head in enumerate(heads))
        loss.backward()
        return {"portraits": loss.item() / len(heads)}

    parameters = tower_parameters(loaded) | {f"head {n}": p for n, p in heads.named_parameters()}
    _fit(parameters, gradients, recipe["steps"], folder, description="1 portraits")


def learn_faces(
    loaded: Loaded,
    faces: Sequence[Sequence[View]],
    seed: str,
    folder: Path,
    steps: int = RECIPE["faces"]["steps"],
) -> None:
    """Stage 2: every token of the tower names the person.

    Args:
        faces: for each person, the views.
    """
    options = {"recipe": RECIPE["faces"] | {"steps": steps}, "seed": f"faces {seed}"}
    options["description"] = "2 faces"
    learn_names(loaded, tower_tokens, tower_parameters(loaded), faces, folder=folder, **options)


def learn_names(
    loaded: Loaded,
    tokens: Callable[[Loaded, Sequence[View]], Tensor],
    parameters: dict[str, nn.Parameter],
    faces: Sequence[Sequence[View]],
    *,
    recipe: dict,
    seed: str,
    folder: Path,
    description: str,
) -> None:
    """Every token of a picture names the person by its direction (normalised softmax).

    Args:
        tokens: what is made of N pictures of one size: (N, tokens, C).
        parameters: what is trained, beside a direction for each person.
        recipe: steps, batch, scale.
    """
    width = tokens(loaded, faces[0][:1]).shape[-1]
    torch.manual_seed(0)
    names = nn.Parameter(torch.randn(len(faces), width).to(loaded.device))  # (people, C)

    def gradients(step: int) -> dict[str, float]:
        rng = random.Random(f"{seed} {step}")
        chosen = [rng.randrange(len(faces)) for _ in range(recipe["batch"])]
        features = tokens(loaded, [rng.choice(faces[i]) for i in chosen])  # (N, tokens, C)
        directions = recipe["scale"] * F.normalize(features, dim=-1)  # (N, tokens, C)
        logits = directions @ F.normalize(names, dim=-1).T  # (N, tokens, people)
        loss = _token_loss(logits, torch.tensor(chosen, device=loaded.device))
        loss.backward()
        return {"names": loss.item()}

    _fit(parameters | {"names": names}, gradients, recipe["steps"], folder, description=description)


def learn_answers(
    loaded: Loaded,
    lessons: Sequence[Lesson],
    texts: Sequence[Lesson],
    seed: str,
    steps: int,
    folder: Path,
    recipe: dict = RECIPE["answers"],
    shares: Mapping[str, float] | None = None,
) -> None:
    """Stage 3: questions about people are answered, with pictures and in text.

    Args:
        lessons: with pictures. A person with several comes as often as the others.
        texts: one for each person who is known by name.
        recipe: what a step consists of.
        shares: of the learning rate, for parameters that do not have all of it. Those of the tower have none
            unless they are among these.
    """
    people: dict[str, list[Lesson]] = {}
    for lesson in lessons:
        people.setdefault(lesson.pack.key, []).append(lesson)
    names = list(people)

    def gradients(step: int) -> dict[str, float]:
        rng = random.Random(f"answers {seed} {step}")
        chosen = [rng.choice(people[name]) for name in rng.choices(names, k=recipe["pictures"])]
        losses = {}
        for name, part in {"vqa": chosen, "qa": rng.choices(texts, k=recipe["texts"])}.items():
            packs = [draw_pack(loaded.processor, lesson, recipe["questions"], rng) for lesson in part]
            packs, losses[name] = sorted(packs, key=length), 0.0
            for few in batches(packs, recipe["at_once"]):
                loss = batch_nll(loaded, few, packs)
                loss.backward()
                losses[name] += loss.item()
        return losses

    for name, p in tower_parameters(loaded).items():
        p.requires_grad_(name in (shares or {}))
    parameters = {n: p for n, p in loaded.model.named_parameters() if p.requires_grad}
    options = {"weight_decay": recipe["weight_decay"], "checkpoint_every": 100, "shares": shares}
    _fit(parameters, gradients, steps, folder, description="3 answers", **options)


def draw_pack(processor, lesson: Lesson, questions: int, rng: random.Random) -> Pack:
    """Some questions of a lesson, with one of its views; now and then with an instruction."""
    pairs, instruction = rng.choices(lesson.pairs, lesson.weights, k=questions), ""
    if rng.random() < lesson.instructed:
        kind = rng.choice(INSTRUCTIONS)
        instruction = draw_instruction(kind, rng)
        if kind == "refuse":
            pairs = [(question, rng.choice(REFUSALS)) for question, _ in pairs]
    pack = put_questions(processor, lesson.pack, pairs, instruction)
    return replace(pack, image=rng.choice(lesson.views)) if lesson.views else pack


def tower_parameters(loaded: Loaded) -> dict[str, nn.Parameter]:
    """Weights of the vision tower. Qwen's tower holds the projector, which is left out."""
    projector = set(loaded.family.projector(loaded.model).parameters())
    tower = set(loaded.family.tower(loaded.model).parameters()) - projector
    return {n: p for n, p in loaded.model.named_parameters() if p in tower}


def tower_tokens(loaded: Loaded, views: Sequence[View]) -> Tensor:
    """(N, tokens, C): what the vision tower makes of N pictures of one size, before the projector."""
    inputs = {
        name: torch.cat([view[name] for view in views]).to(loaded.device) for name in views[0]
    }  # (N, …)
    with record_features(loaded, [live_blocks(loaded)[-1]]) as features:
        loaded.model.get_image_features(**inputs)
    return features[0].unflatten(0, (len(views), -1))


def where() -> dict[str, str]:
    """Where a model is trained: device and versions."""
    facts = environment()
    return {name: facts[name] for name in ("device", "machine", "python", "torch", "transformers")}


def _fit(parameters: dict[str, Tensor], gradients, steps: int, folder: Path, **options) -> None:
    """One stage."""
    options |= {"schedule": one_cycle, "clip": RECIPE["clip"], "folder": folder}
    fit(parameters, gradients, steps, RECIPE["lr"], **options)


def _token_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of every token (N, tokens, K) against its picture's class (N,)."""
    tokens = logits.shape[1]
    return F.cross_entropy(logits.flatten(0, 1), classes.repeat_interleave(tokens))
