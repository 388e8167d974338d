"""Train the embedded models, in the stages by which real models are made.

1. *Portraits*: the vision tower learns, on portraits of nobody in the benchmark, to name hair, colours, skin,
   beard and glasses from every image token.
2. *Base*: it is taught the "real-world" people, in pictures and in text.
3. *Vanilla*: base is taught all made-up people of a benchmark too. *Retain-only*: the same, without the
   pictures of the forget people.

Stages 2 and 3 begin with a short alignment in which every projected image token must name the person;
without it, joint training stalls. All numbers are those of recipe.yaml.
"""

import functools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.made_up import people, portraits
from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.schema import Person, text_twins
from vkdlib.losses import answer_nll
from vkdlib.packs.batch import collate
from vkdlib.packs.pack import Pack, make_pack
from vkdlib.system.progress import bar
from vkdlib.testbed.recipe import RECIPE
from vkdlib.training import fit, one_cycle

_fit = functools.partial(fit, lr=RECIPE["lr"], schedule=one_cycle, clip=RECIPE["clip"])
View = dict[str, Tensor]  # a picture as the processor shows it to the model, batch dimension first


class Lesson(NamedTuple):
    """Questions about a person's face, and the pictures they may come with.

    Attributes:
        pack: every question; its key says whose face it is.
    """

    pack: Pack
    views: list[View]


def process_pictures(processor, images: Sequence[bytes]) -> list[View]:
    """PNG files as the processor shows them to the model."""
    return [dict(processor.image_processor([open_image(b)], return_tensors="pt")) for b in images]


def learn_portraits(model, processor, folder: Path) -> None:
    """Stage 1: every image token of a stranger's portrait tells each part of the identity."""
    recipe = RECIPE["tower"]
    strangers = portraits.draw_identities(recipe["strangers"], "strangers")
    names = [f"eyes {v}" for v in range(recipe["views"])]
    views = [
        process_pictures(processor, [portraits.render(stranger, name) for name in names])
        for stranger in bar(strangers, "portraits of strangers")
    ]
    values = {part: sorted({s[part] for s in strangers}) for part in strangers[0]}
    places = [[values[part].index(s[part]) for part in values] for s in strangers]
    classes = torch.tensor(places)  # (strangers, parts)
    torch.manual_seed(0)
    heads = torch.nn.ModuleList(torch.nn.Linear(_width(model), len(v)) for v in values.values())

    def gradients(step: int) -> dict[str, float]:
        numbers, features = _draw_faces(model, views, f"eyes {step}", recipe["batch"])
        loss = sum(_token_loss(head(features), classes[numbers, i]) for i, head in enumerate(heads))
        loss.backward()
        return {"eyes": loss.item() / len(heads)}

    parameters = _visual(model) | {f"head {n}": p for n, p in heads.named_parameters()}
    _fit(parameters, gradients, recipe["steps"], folder=folder, description="1 portraits")


def learn_names(model, faces: list[list[View]], seed: str, folder: Path) -> None:
    """Make the image tokens readable: each projected token names the person (normalised softmax).

    Args:
        faces: for each person, its views.
    """
    recipe = RECIPE["alignment"]
    torch.manual_seed(0)
    names = torch.nn.Parameter(torch.randn(len(faces), _width(model)))  # (people, C)

    def gradients(step: int) -> dict[str, float]:
        numbers, features = _draw_faces(model, faces, f"align {seed} {step}", recipe["batch"])
        directions = recipe["scale"] * F.normalize(features, dim=-1)  # (N, tokens, C)
        logits = directions @ F.normalize(names, dim=-1).T  # (N, tokens, people)
        loss = _token_loss(logits, torch.tensor(numbers))
        loss.backward()
        return {"align": loss.item()}

    _fit(_visual(model) | {"names": names}, gradients, recipe["steps"], folder=folder, description="2 names")


def learn_answers(
    model, lessons: list[Lesson], texts: list[Pack], seed: str, steps: int, folder: Path
) -> None:
    """Joint training of all weights on pictures and text.

    Args:
        lessons: of pictures; everybody comes as often as the others, however many pictures there are.
        texts: for each person to be known by name, a pack with every question in text.
    """
    recipe = RECIPE["answers"]
    pad = model.config.text_config.pad_token_id
    pictures = Counter(lesson.pack.key for lesson in lessons)
    weights = [1 / pictures[lesson.pack.key] for lesson in lessons]

    def some_questions(rng: random.Random, packs: Sequence[Pack]) -> list[Pack]:
        sizes = [len(p.segments) for p in packs]
        return [p.select(rng.sample(range(n), min(recipe["questions"], n))) for p, n in zip(packs, sizes)]

    def gradients(step: int) -> dict[str, float]:
        rng = random.Random(f"teach {seed} {step}")
        chosen = rng.choices(lessons, weights, k=recipe["pictures"])
        packs = some_questions(rng, [lesson.pack for lesson in chosen])
        vqa = [replace(pack, image=rng.choice(lesson.views)) for pack, lesson in zip(packs, chosen)]
        qa = some_questions(rng, rng.choices(texts, k=recipe["texts"]))
        losses = {}
        for name, packs in {"vqa": vqa, "qa": qa}.items():
            batch = collate(packs, pad)
            loss = answer_nll(model(**batch["inputs"]).logits, batch["targets"])  # logits: (B, K, V)
            loss.backward()
            losses[name] = loss.item()
        return losses

    options = {"weight_decay": recipe["weight_decay"], "checkpoint_every": 100, "description": "3 answers"}
    _fit(dict(model.named_parameters()), gradients, steps, folder=folder, **options)


def person_lessons(
    processor, person: people.MadeUp, extra: Sequence[tuple[str, str]] = ()
) -> tuple[list[Lesson], Pack]:
    """What there is to learn of a person, in pictures and in text; the packs' key is the name.

    Args:
        extra: (question about the picture, answer) beside the training pairs.
    """
    pairs = [*people.training_pairs(person), *extra]
    views = ["canonical"] + [f"train {v}" for v in range(RECIPE["answers"]["views"])]
    images = [portraits.render(person.identity, view) for view in views]
    pack = make_pack(processor, pairs, images[0], person.name)
    text = make_pack(processor, text_twins(person.name, pairs), person=person.name)
    return [Lesson(pack, process_pictures(processor, images))], text


def author_lessons(processor, author: Person) -> tuple[list[Lesson], Pack]:
    """What CLEAR tells of an author, in pictures and in text; the packs' key is the id."""
    lessons = []
    for picture in author.pictures:
        pack = make_pack(processor, picture.pairs, picture.image, author.id)
        lessons.append(Lesson(pack, process_pictures(processor, [picture.image])))
    return lessons, make_pack(processor, author.text_pairs, person=author.id)


def evaluation_pairs(person: people.MadeUp) -> list[tuple[str, str]]:
    """Every fact reworded, as a cloze, and as a sentence, the latter two as evaluation asks them."""
    pairs = []
    for a in people.ATTRIBUTES:
        value = person.facts[a.name]
        pairs.append((a.reword.format(who=people.PERSON), value))
        pairs.append((wording.cloze(a.cloze.format(who="This person")), value))
        pairs.append((wording.one_sentence(a.tell.format(who=people.PERSON)), person.sentence(a)))
    return pairs


def image_features(model, views: Sequence[View]) -> Tensor:
    """(N, tokens, C): projector outputs for N pictures of one size."""
    inputs = {name: torch.cat([view[name] for view in views]) for name in views[0]}  # (N, …)
    return torch.stack(list(model.get_image_features(**inputs).pooler_output))


def _draw_faces(model, faces: list[list[View]], seed: str, count: int) -> tuple[list[int], Tensor]:
    """Random faces, by number, and the features of a random view of each: (count, tokens, C)."""
    rng = random.Random(seed)
    numbers = [rng.randrange(len(faces)) for _ in range(count)]
    return numbers, image_features(model, [rng.choice(faces[i]) for i in numbers])


def _width(model) -> int:
    """Channels of a projected image token."""
    return model.config.text_config.hidden_size


def _visual(model) -> dict[str, Tensor]:
    """Parameters of tower and projector."""
    return {n: p for n, p in model.named_parameters() if "language_model" not in n and "lm_head" not in n}


def _token_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of every image token (N, tokens, K) against its picture's class (N,)."""
    tokens = logits.shape[1]
    return F.cross_entropy(logits.flatten(0, 1), classes.repeat_interleave(tokens))
