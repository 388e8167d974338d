"""Train the embedded models, in the stages in which real ones come to be.

1. *Eyes*: the vision tower learns, on portraits of nobody in the benchmark, to name hair, colours, skin,
   beard and glasses from every image token.
2. *Base*: it is taught the "real-world" people, in pictures and in text.
3. *Vanilla*: base is taught all made-up people of a benchmark too. *Retain-only*: the same, without the
   pictures of the forget people.

Stages 2 and 3 begin with a short alignment in which every projected image token must name the person;
without it, joint training stalls.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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
from vkdlib.training import fit, one_cycle

STRANGERS, STRANGER_VIEWS = 800, 3  # portraits for the tower alone
VIEWS = 10  # of each person, beside the canonical one, to train on
EYES_STEPS, ALIGN_STEPS, BASE_STEPS = 500, 300, 350
TEACH_STEPS = {"mllmu": 1300, "clear": 1000}
LR, CLIP = 1e-3, 1.0
SEEN, TOLD, QUESTIONS = 24, 12, 7  # people a step in pictures, in text; questions about each


Picture = dict[str, Tensor]  # an image as the processor shows it to the model, batch dimension first


def pictures(processor, images: Sequence[bytes]) -> list[Picture]:
    """PNG files as the processor shows them to the model."""
    return [dict(processor.image_processor([open_image(b)], return_tensors="pt")) for b in images]


def open_eyes(model, processor, folder: Path) -> None:
    """Stage 1: every image token of a stranger's portrait tells each part of the identity."""
    strangers = portraits.draw_identities(STRANGERS, "strangers")
    drawn = bar(strangers, "portraits of strangers")
    views = [f"eyes {v}" for v in range(STRANGER_VIEWS)]
    shown = [pictures(processor, [portraits.render(s, v) for v in views]) for s in drawn]
    parts = {part: sorted({s[part] for s in strangers}) for part in strangers[0]}
    answers = torch.tensor([[parts[p].index(s[p]) for p in parts] for s in strangers])
    torch.manual_seed(0)
    heads = torch.nn.ModuleList(torch.nn.Linear(model_width(model), len(v)) for v in parts.values())

    def gradients(step):
        rng = random.Random(f"eyes {step}")
        chosen = [rng.randrange(STRANGERS) for _ in range(64)]
        features = image_tokens(model, [shown[i][rng.randrange(STRANGER_VIEWS)] for i in chosen])
        loss = sum(_token_loss(h(features), answers[chosen, i]) for i, h in enumerate(heads))
        loss.backward()
        return {"eyes": loss.item() / len(heads)}

    trained = _visual(model) | {f"head {n}": p for n, p in heads.named_parameters()}
    fit(trained, gradients, EYES_STEPS, LR, schedule=one_cycle, clip=CLIP, folder=folder,
        description="1 eyes")  # fmt: skip


def align(model, shown: list[list[Picture]], seed: str, folder: Path) -> None:
    """Make the image tokens readable: each projected token names the person (normalised softmax).

    Args:
        shown: for each person, its views.
    """
    torch.manual_seed(0)
    names = torch.nn.Parameter(torch.randn(len(shown), model_width(model)))

    def gradients(step):
        rng = random.Random(f"align {seed} {step}")
        chosen = [rng.randrange(len(shown)) for _ in range(64)]
        features = image_tokens(model, [rng.choice(shown[i]) for i in chosen])
        logits = 16 * F.normalize(features, dim=-1) @ F.normalize(names, dim=-1).T
        loss = _token_loss(logits, torch.tensor(chosen))
        loss.backward()
        return {"align": loss.item()}

    fit(_visual(model) | {"names": names}, gradients, ALIGN_STEPS, LR, schedule=one_cycle, clip=CLIP,
        folder=folder, description="2 align")  # fmt: skip


def teach(model, seen: list, told: list, seed: str, steps: int, folder: Path) -> None:
    """Joint training of all weights on pictures and text.

    Args:
        seen: for each picture or set of views, (pack with every question, views); the pack's key says
            whose it is, and everybody comes as often as the others.
        told: for each person to be known by name, a pack with every question in text.
    """
    pad = model.config.text_config.pad_token_id
    counts = Counter(pack.key for pack, _ in seen)
    weights = [1 / counts[pack.key] for pack, _ in seen]

    def sample(rng, packs: Sequence[Pack]) -> list[Pack]:
        return [p.select(rng.sample(range(len(p.segments)), min(QUESTIONS, len(p.segments)))) for p in packs]

    def gradients(step):
        rng = random.Random(f"teach {seed} {step}")
        chosen = rng.choices(seen, weights, k=SEEN)
        asked = sample(rng, [pack for pack, _ in chosen])
        shown = [replace(pack, image=rng.choice(views)) for pack, (_, views) in zip(asked, chosen)]
        losses = {}
        for name, packs in [("vqa", shown), ("qa", sample(rng, rng.choices(told, k=TOLD)))]:
            batch = collate(packs, pad)
            loss = answer_nll(model(**batch["inputs"]).logits, batch["targets"])
            loss.backward()
            losses[name] = loss.item()
        return losses

    fit(dict(model.named_parameters()), gradients, steps, LR, schedule=one_cycle, clip=CLIP,
        weight_decay=0.01, folder=folder, checkpoint_every=100, description="3 teach")  # fmt: skip


def lessons(processor, person: people.MadeUp, more: Sequence[tuple[str, str]] = ()) -> tuple:
    """What there is to learn of a person: ((pack, views), text pack); both packs' key is the name.

    Args:
        more: (question about the picture, answer) beside the training pairs.
    """
    pairs = [(p["Question"], p["Answer"]) for p in people.training_pairs(person)] + [*more]
    views = ["canonical"] + [f"train {v}" for v in range(VIEWS)]
    images = [portraits.render(person.identity, v) for v in views]
    seen = make_pack(processor, pairs, images[0], person.name), pictures(processor, images)
    return seen, make_pack(processor, text_twins(person.name, pairs), key=person.name)


def author_lessons(processor, author: Person) -> tuple:
    """What CLEAR tells of an author: ([(pack, views) of each picture], text pack)."""
    seen = []
    for picture in author.pictures:
        pack = make_pack(processor, picture.pairs, picture.image, author.id)
        seen.append((pack, pictures(processor, [picture.image])))
    return seen, make_pack(processor, author.text_pairs, key=author.id)


def asked_forms(person: people.MadeUp) -> list[tuple[str, str]]:
    """Every fact reworded, as a cloze, and as a sentence, the latter two as evaluation asks them."""
    pairs = []
    for a in people.ATTRIBUTES:
        value, gap = person.facts[a.name], a.cloze.format(who="This person")
        told = a.say.format(who=person.name, value=value)
        pairs.append((a.reword.format(who=people.PERSON), value))
        pairs.append((wording.cloze(gap), value))
        pairs.append((wording.one_sentence(a.tell.format(who=people.PERSON)), told))
    return pairs


def image_tokens(model, images: Sequence[Picture]) -> Tensor:
    """(N, tokens, C): projector outputs for N pictures of one size."""
    inputs = {name: torch.cat([image[name] for image in images]) for name in images[0]}
    return torch.stack(list(model.get_image_features(**inputs).pooler_output))


def model_width(model) -> int:
    return model.config.text_config.hidden_size


def _visual(model) -> dict[str, Tensor]:
    """Parameters of tower and projector."""
    return {n: p for n, p in model.named_parameters() if "language_model" not in n and "lm_head" not in n}


def _token_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of every image token (N, tokens, K) against its picture's class (N,)."""
    return F.cross_entropy(logits.flatten(0, 1), target.repeat_interleave(logits.shape[1]))
