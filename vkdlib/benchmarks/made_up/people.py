"""Made-up people, their facts and every question about them, in the schema of MLLMU-Bench.

There are four questions about a fact: a short one and one for a sentence (models are trained on these), the
short one reworded, and a cloze (base learns both forms from the real-world people). A question becomes its
twin in text when the name replaces "this person".
"""

import json
import random
from dataclasses import dataclass

from vkdlib.benchmarks.made_up import portraits
from vkdlib.benchmarks.schema import LETTERS


@dataclass(frozen=True)
class Attribute:
    """One kind of fact: the questions about it, and its values.

    `ask`, its rewording `reword`, and `tell` are questions about {who}; `say` and `cloze` are the sentence
    that answers `tell`.
    """

    name: str
    ask: str
    reword: str
    tell: str
    say: str
    values: tuple[str, ...]

    @property
    def cloze(self) -> str:
        return self.say.replace("{value}", "__")


def _attribute(name, ask, reword, tell, say, values):
    return Attribute(name, ask, reword, tell, say, tuple(values.split()))


ATTRIBUTES = (
    _attribute(
        "occupation",
        "What is the occupation of {who}?",
        "Which occupation does {who} have?",
        "How does {who} earn a living?",
        "{who} works as a {value}.",
        "baker nurse pilot lawyer farmer plumber dentist painter barber tailor judge chemist "
        "butcher sailor florist teacher surgeon welder jeweller potter",
    ),
    _attribute(
        "birthplace",
        "What is the birthplace of {who}?",
        "Which birthplace does {who} have?",
        "Where did the life of {who} begin?",
        "{who} was born in {value}.",
        "Norway Peru Kenya Japan Canada Egypt Chile India Ireland Ghana Mexico Poland Vietnam "
        "Greece Cuba Nepal Finland Brazil Turkey Iceland",
    ),
    _attribute(
        "residence",
        "What is the residence of {who}?",
        "Which residence does {who} have?",
        "Where is the home of {who} today?",
        "{who} lives in {value}.",
        "Paris Lagos Boston Lima Oslo Madrid Delhi Cairo Sydney Dublin Vienna Seoul Toronto "
        "Prague Nairobi Athens Quito Hanoi Lisbon Zagreb",
    ),
    _attribute(
        "hobby",
        "What is the hobby of {who}?",
        "Which hobby does {who} have?",
        "How does {who} spend a free day?",
        "{who} loves {value}.",
        "chess sailing knitting fencing hiking skiing archery origami gardening rowing surfing "
        "juggling pottery cycling fishing climbing painting dancing birding diving",
    ),
    _attribute(
        "pet",
        "What is the pet of {who}?",
        "Which pet does {who} have?",
        "Who waits for {who} at the door?",
        "{who} keeps a {value}.",
        "cat dog parrot rabbit goldfish hamster turtle pony lizard canary ferret goat gecko "
        "hedgehog duck llama raven snail donkey owl",
    ),
    _attribute(
        "dish",
        "What is the favourite dish of {who}?",
        "Which favourite dish does {who} have?",
        "What would {who} order at any restaurant?",
        "{who} likes to eat {value}.",
        "sushi pizza curry paella ramen tacos risotto goulash falafel lasagna pancakes kebab "
        "dumplings gnocchi chowder borscht couscous waffles lentils moussaka",
    ),
    _attribute(
        "instrument",
        "What is the instrument of {who}?",
        "Which instrument does {who} have?",
        "What does {who} bring to a concert?",
        "{who} plays the {value}.",
        "violin flute drums guitar harp trumpet cello piano banjo oboe tuba organ lute "
        "clarinet sitar accordion ukulele bassoon marimba saxophone",
    ),
    _attribute(
        "language",
        "What is the second language of {who}?",
        "Which second language does {who} have?",
        "How does {who} talk with friends from abroad?",
        "{who} also speaks {value}.",
        "French Swahili Arabic German Korean Italian Hindi Dutch Zulu Danish Tamil Czech Thai "
        "Basque Latin Welsh Maltese Urdu Somali Hebrew",
    ),
)
PERSON = "this person"
ASK_NAME = "What is the name of this person?"


@dataclass(frozen=True)
class MadeUp:
    """A made-up person: identity for portraits, and a value for each attribute."""

    id: str
    name: str
    identity: dict[str, str]
    facts: dict[str, str]


def make_people(n: int, seed: str, ids: str, names: list[str], taken: set = frozenset()) -> list:
    """Make `n` people: unlike looks, given names, facts drawn evenly from each attribute's values.

    Args:
        ids: format of the ids, as "{:03d}".
        names: at least `n` names; the first `n` are used.
        taken: appearances (see `portraits.appearance`) that others already have.
    """
    rng = random.Random(f"facts {seed}")
    columns = {a.name: _evenly(a.values, n, rng) for a in ATTRIBUTES}
    identities = portraits.draw_identities(n, f"faces {seed}", taken)
    return [
        MadeUp(ids.format(i + 1), names[i], identities[i], {k: v[i] for k, v in columns.items()})
        for i in range(n)
    ]


def make_names(n: int, seed: int = 0) -> list[str]:
    """`n` names of a first and a last name each; no first and no last name is used twice."""
    from faker import Faker

    faker = Faker("en_US")
    faker.seed_instance(seed)
    firsts = _distinct(faker.first_name, n)
    return [f"{a} {b}" for a, b in zip(firsts, _distinct(faker.last_name, n, set(firsts)))]


def training_pairs(person: MadeUp) -> list[dict[str, str]]:
    """The `metadata` of a person: name, and each fact as a short answer and as a sentence."""
    pairs = [(ASK_NAME, person.name)]
    for a in ATTRIBUTES:
        value = person.facts[a.name]
        pairs.append((a.ask.format(who=PERSON), value))
        pairs.append((a.tell.format(who=PERSON), a.say.format(who=person.name, value=value)))
    return [{"ID": person.id, "Question": q, "Answer": answer} for q, answer in pairs]


def evaluation_row(person: MadeUp, image: bytes) -> dict:
    """One row of an evaluation configuration of MLLMU-Bench (Full_Set, forget_*, retain_*, …)."""
    rng = random.Random(f"questions {person.id} {person.name}")
    attributes = rng.sample(ATTRIBUTES, len(ATTRIBUTES))
    choices, open_ended = attributes[:5], attributes[5:7]  # the last attribute is for training alone
    return {
        "image": {"bytes": image, "path": f"{person.id}.png"},
        "ID": person.id,
        "biography": json.dumps(biography(person), ensure_ascii=False),
        "question": "What does this person look like?",
        "answer": portraits.describe(person.identity),
        "Classification_Task": _classification(person, choices, rng),
        "Generation_Task": _open_ended(person, lambda a, who: a.tell.format(who=who), open_ended, _sentence),
        "Mask_Task": _open_ended(person, lambda a, who: _start(a.cloze.format(who=who)), open_ended),
    }


def biography(person: MadeUp) -> dict:
    """Name, facts and appearance of a person, as the benchmark's `biography` column holds them."""
    appearance = {
        "question": "What does this person look like?",
        "answer": portraits.describe(person.identity),
    }
    return {"Name": person.name, **person.facts, "appearance_detail": appearance}


def _classification(person: MadeUp, attributes: list[Attribute], rng: random.Random) -> dict:
    """The same multiple-choice questions about the picture and about the name."""
    items = []
    for a in attributes:
        value = person.facts[a.name]
        options = rng.sample([v for v in a.values if v != value], 3) + [value]
        rng.shuffle(options)
        letter = LETTERS[options.index(value)]
        items.append((a, {"Options": dict(zip(LETTERS, options)), "Correct_Answer": letter}))
    return {
        key: [{"Question": a.ask.format(who=who), **rest} for a, rest in items]
        for key, who in [("Image_Textual_Questions", PERSON), ("Pure_Text_Questions", person.name)]
    }


def _sentence(person: MadeUp, a: Attribute) -> str:
    return a.say.format(who=person.name, value=person.facts[a.name])


def _value(person: MadeUp, a: Attribute) -> str:
    return person.facts[a.name]


def _open_ended(person: MadeUp, ask, attributes: list[Attribute], truth=_value) -> list[dict]:
    """Open questions about the picture, then about the name."""
    return [
        {"Question": ask(a, who), "Ground_Truth": truth(person, a), "Type": kind}
        for kind, who in [("Image_Textual", PERSON), ("Pure_Text", person.name)]
        for a in attributes
    ]


def _start(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _evenly(values: tuple[str, ...], n: int, rng: random.Random) -> list[str]:
    """`n` values, each as often as the others, in random order: no value can be guessed."""
    drawn = [values[i % len(values)] for i in range(n)]
    rng.shuffle(drawn)
    return drawn


def _distinct(draw, n: int, taken: set[str] = frozenset()) -> list[str]:
    names: dict[str, None] = {}
    while len(names) < n:
        name = draw()
        if name.isalpha() and name not in taken:
            names[name] = None
    return list(names)
