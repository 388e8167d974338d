"""Made-up people, their facts and every question about them, in the schema of MLLMU-Bench.

There are four questions about a fact: a short one and one for a sentence (models are trained on these), the
short one reworded, and a cloze (base learns both forms from the real-world people). A question becomes its
twin in text when the name replaces "this person".
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vkdlib.benchmarks.made_up import portraits
from vkdlib.benchmarks.schema import LETTERS, OPTIONS
from vkdlib.system.files import read_yaml


@dataclass(frozen=True)
class Attribute:
    """One kind of fact: the questions about it, and its values.

    `ask`, its rewording `reword`, and `tell` are questions about {who}; `say` and `cloze` are a sentence
    about it; `clause` is its part in the sentence that answers `tell`.
    """

    name: str
    ask: str
    reword: str
    tell: str
    say: str
    clause: str
    values: list[str]

    @property
    def cloze(self) -> str:
        return self.say.replace("{value}", "__")


DATA = read_yaml(Path(__file__).with_name("attributes.yaml"))
ATTRIBUTES = tuple(Attribute(name, **fields) for name, fields in DATA.items())
PERSON = "this person"
NAME_QUESTION = "What is the name of this person?"
SENTENCE = 4  # facts in a sentence


@dataclass(frozen=True)
class MadeUp:
    """A made-up person: identity for portraits, and a value for each attribute."""

    id: str
    name: str
    identity: dict[str, str]
    facts: dict[str, str]

    def sentence(self, attribute: Attribute, order: Sequence[Attribute] = ATTRIBUTES) -> str:
        """The name, a fact, and the next three in the fixed order.

        With a sentence of one fact most words would be those of every answer, and a model that never met the
        person would score a ROUGE-L of one half and more.
        """
        first = order.index(attribute)
        attributes = [order[(first + i) % len(order)] for i in range(min(SENTENCE, len(order)))]
        return f"{self.name}: {', '.join(a.clause.format(value=self.facts[a.name]) for a in attributes)}."


def make_people(seed: str, names: list[str], looks: set = frozenset()) -> list[MadeUp]:
    """Make a person for each name. No two look alike; each value of an attribute is used equally often.

    Args:
        looks: appearances of other people (see `portraits.appearance`), which nobody else may have.
    """
    rng = random.Random(f"facts {seed}")
    columns = {a.name: _evenly(a.values, len(names), rng) for a in ATTRIBUTES}
    identities = portraits.draw_identities(len(names), f"faces {seed}", looks)
    return [
        MadeUp(f"{i + 1:03d}", name, identity, {attribute: v[i] for attribute, v in columns.items()})
        for i, (name, identity) in enumerate(zip(names, identities))
    ]


def make_names(n: int, seed: int = 0) -> list[str]:
    """`n` names of a first and a last name each; no first and no last name is used twice."""
    from faker import Faker

    faker = Faker("en_US")
    faker.seed_instance(seed)
    firsts = _distinct(faker.first_name, n)
    return [f"{a} {b}" for a, b in zip(firsts, _distinct(faker.last_name, n, set(firsts)))]


def training_pairs(person: MadeUp, order: Sequence[Attribute] = ATTRIBUTES) -> list[tuple[str, str]]:
    """(question about the picture, answer): the name, and each fact as a short answer and as a sentence."""
    pairs = [(NAME_QUESTION, person.name)]
    for a in order:
        pairs.append((a.ask.format(who=PERSON), person.facts[a.name]))
        pairs.append((a.tell.format(who=PERSON), person.sentence(a, order)))
    return pairs


def evaluation_row(person: MadeUp) -> dict:
    """One row of an evaluation configuration of MLLMU-Bench (Full_Set, forget_*, retain_*, …)."""
    rng = random.Random(f"questions {person.id} {person.name}")
    attributes = rng.sample(ATTRIBUTES, len(ATTRIBUTES))
    choices, open_ended = attributes[:5], attributes[5:7]  # the last attribute is for training alone
    looks = portraits.describe(person.identity)
    appearance = {"question": "What does this person look like?", "answer": looks}
    biography = {"Name": person.name, **person.facts, "appearance_detail": appearance}
    return {
        "image": portraits.picture(person.identity) | {"path": f"{person.id}.png"},
        "ID": person.id,
        "biography": json.dumps(biography, ensure_ascii=False),
        **appearance,
        "Classification_Task": choice_questions(person, choices, rng),
        "Generation_Task": open_questions(person, [(a.tell, person.sentence(a)) for a in open_ended]),
        "Mask_Task": open_questions(person, [(a.cloze, person.facts[a.name]) for a in open_ended]),
    }


def choice_questions(person: MadeUp, attributes: list[Attribute], rng: random.Random) -> dict:
    """The same multiple-choice questions about the picture and about the name."""
    items = []
    for a in attributes:
        value = person.facts[a.name]
        others = [v for v in a.values if v != value]
        options = rng.sample(others, min(OPTIONS - 1, len(others))) + [value]
        rng.shuffle(options)
        letter = LETTERS[options.index(value)]
        items.append((a, {"Correct_Answer": letter, "Options": dict(zip(LETTERS, options))}))
    return {
        key: [{"Question": a.ask.format(who=who), **rest} for a, rest in items]
        for key, who in [("Image_Textual_Questions", PERSON), ("Pure_Text_Questions", person.name)]
    }


def open_questions(person: MadeUp, pairs: list[tuple[str, str]]) -> list[dict]:
    """Open questions about the picture, then about the name.

    Args:
        pairs: question about {who}, answer.
    """
    return [
        {"Question": _start(question.format(who=who)), "Ground_Truth": answer, "Type": kind}
        for kind, who in [("Image_Textual", PERSON), ("Pure_Text", person.name)]
        for question, answer in pairs
    ]


def _start(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _evenly(values: list[str], n: int, rng: random.Random) -> list[str]:
    """`n` values, each as often as the others, in random order: no value can be guessed."""
    column = [values[i % len(values)] for i in range(n)]
    rng.shuffle(column)
    return column


def _distinct(draw, n: int, others: set[str] = frozenset()) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < n:
        name = draw()
        if name.isalpha() and name not in others:
            names[name] = None
    return list(names)
