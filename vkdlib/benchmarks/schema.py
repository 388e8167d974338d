"""A benchmark in memory: people, their questions, and who is forgotten, retained or for selection."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace

from vkdlib.benchmarks.pictures import faces_html
from vkdlib.system.checks import whole_number

KINDS = ("classification", "cloze", "generation")
MODALITIES = ("vqa", "qa")  # with the picture; by name, in text
PROTOCOLS = ("likelihood", "generate")  # how multiple choice is answered, see `evaluate.evaluate`
MAX_NEW_TOKENS = 50  # of an answer in words, as in MLLMU-Bench's and MMUnlearner's code
PERSON_WORDS = re.compile(r"\b(?:this|the) (?:person|individual|man|woman)\b", re.IGNORECASE)
SELECTION_PER_CENT = 20
CANDIDATES_PER_CENT = 25  # of the people, who are forgotten in one draw or another
LETTERS = "ABCDEFGHIJ"  # of options
OPTIONS = 4  # of multiple choice; `load_benchmark` warns where it is another number


@dataclass(frozen=True)
class Question:
    """One evaluation question.

    Attributes:
        id: "<person>/<kind>/<modality>/<number>".
        modality: "vqa" (with a picture of the person) or "qa" (by name, in text).
        question: as it is put to the model; multiple choice without its options.
        answer: for classification the letter of the right option, else the right words.
        options: letter -> text; empty unless classification.
        picture: number of the person's picture that a vqa question is about.
        scene: whether the answer is about this picture, and so not to be found in others of the person.
    """

    id: str
    kind: str
    modality: str
    question: str
    answer: str
    options: Mapping[str, str] = field(default_factory=dict)
    picture: int = 0
    scene: bool = False


@dataclass(frozen=True, repr=False)
class Picture:
    """A PNG or JPEG file and its training pairs (question about the picture, answer)."""

    image: bytes
    pairs: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"<Picture of {len(self.image)} bytes, {len(self.pairs)} training pairs>"


@dataclass(frozen=True, repr=False)
class Person:
    """A person: pictures with training pairs, training pairs in text, evaluation questions.

    Attributes:
        pictures: at least one for people who are trained on; the first is their portrait.
        text_pairs: (question by name, answer).
        test_images: other pictures, which no model is trained on.
    """

    id: str
    name: str
    pictures: tuple[Picture, ...] = ()
    text_pairs: tuple[tuple[str, str], ...] = ()
    questions: tuple[Question, ...] = ()
    test_images: tuple[bytes, ...] = ()

    @property
    def image(self) -> bytes:
        """The portrait."""
        return self.pictures[0].image

    def __repr__(self) -> str:
        counts = f"{len(self.pictures)} pictures, {len(self.questions)} questions"
        return f"<Person {self.id} {self.name!r}: {counts}>"


def text_twins(name: str, pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Training pairs with the name in place of "this person": same facts, no picture.

    Questions that do not say "this person", and the question for the name, have no twin.
    """
    twins = [(PERSON_WORDS.sub(lambda _: name, q), q, a) for q, a in pairs]  # as it is: no regex template
    return tuple((twin, a) for twin, q, a in twins if twin != q and a != name)


@dataclass(frozen=True, repr=False)
class Split:
    """Who is forgotten and who is retained.

    Attributes:
        forget, retain: made-up people; disjoint.
        real: real-world people.
        selection: ids of the people on whom settings may be chosen; they are never reported.
        candidates: ids of all who are forgotten in one draw or another. Those of other draws are retained,
            but not reported as such: never-saw, which serves every draw, never saw them. So what is reported
            of retain people is about the same people in every draw.
        world: pictures of the real world with questions (CLEAR), one "person" each. Its id is that of the
            person of `real` whom it shows, if there is one.
    """

    forget: tuple[Person, ...]
    retain: tuple[Person, ...]
    real: tuple[Person, ...]
    selection: frozenset[str]
    candidates: frozenset[str] = frozenset()
    world: tuple[Person, ...] = ()

    def reported(self) -> dict[str, tuple[Person, ...]]:
        """The sets that results are reported on, without selection people and candidates of other draws."""
        retain = tuple(p for p in self.retain if p.id not in self.candidates)
        sets = {"forget": self.forget, "retain": retain, "test": self.forget, "retain_unseen": retain}
        sets |= {"real": self.real, "world": self.world}
        return {k: tuple(p for p in people if p.id not in self.selection) for k, people in sets.items()}

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {len(people)}" for name, people in self._groups().items())
        return f"<Split of people: {counts}; {len(self.selection)} for selection>"

    def _repr_html_(self) -> str:
        """Faces and counts, for a notebook."""
        return faces_html(repr(self).strip("<>"), self._groups())

    def _groups(self) -> dict[str, tuple[Person, ...]]:
        groups = {name: getattr(self, name) for name in ("forget", "retain", "real", "world")}
        return {name: people for name, people in groups.items() if people}

    def for_selection(self, draw: int = 0) -> "Split":
        """The same task posed on selection people alone: forget some of them, retain everybody else.

        Args:
            draw: which of them to forget; draws 0, 1, ... have nobody in common.
        """
        draw = whole_number("draw", draw, 0)
        candidates = [p for p in self.retain if p.id in self.selection]
        size = len(self.forget)
        forget = tuple(candidates[draw * size : (draw + 1) * size])
        if len(forget) < size:
            draws = len(candidates) // size
            raise ValueError(f"draw is {draw!r}; there are {draws} of {size} selection people each")
        people = (*self.forget, *self.retain)
        retain = tuple(p for p in people if p not in forget)
        others = {p.id for p in (*people, *self.real, *self.world)} - self.selection
        return Split(forget, retain, self.real, frozenset(others), world=self.world)


@dataclass(frozen=True, repr=False)
class Benchmark:
    """A benchmark in memory.

    Attributes:
        schema: how its files are laid out, and so whose benchmark it is: "mllmu" or "clear".
        people: id -> person, all who can be forgotten.
        real: real-world people.
        forget_ids: ratio in per cent -> ids of the people to forget.
        world: pictures of the real world (CLEAR).
        retain_ids: ids of the people who have questions when they are retained; None: everybody.
        forget_questions: ratio in per cent -> id -> the questions about a person to forget at this ratio,
            where they are not those in `people`.
    """

    name: str
    schema: str
    people: Mapping[str, Person]
    real: tuple[Person, ...]
    forget_ids: Mapping[int, tuple[str, ...]]
    world: tuple[Person, ...] = ()
    retain_ids: frozenset[str] | None = None
    forget_questions: Mapping[int, Mapping[str, tuple[Question, ...]]] = field(default_factory=dict)

    def __repr__(self) -> str:
        ratios = ", ".join(map(str, self.forget_ids))
        people = f"{len(self.people)} people, {len(self.real)} real-world ones"
        return f"<Benchmark {self.name} ({self.schema}): {people}, forget {ratios} %>"

    def _repr_html_(self) -> str:
        """Faces and counts, for a notebook."""
        groups = {"people": tuple(self.people.values()), "real-world people": self.real}
        return faces_html(repr(self).strip("<>"), groups)

    def split(self, forget_ratio: int, draw: int = 0) -> Split:
        """Forget and retain people.

        Args:
            forget_ratio: in per cent.
            draw: who is to be forgotten: 0 takes the benchmark's own forget set; draws 1, 2, ... take other
                candidates. Draws have nobody in common.
        """
        forget_ratio = whole_number("forget_ratio", forget_ratio)
        if forget_ratio not in self.forget_ids:
            known = ", ".join(map(str, self.forget_ids))
            raise ValueError(f"forget_ratio is {forget_ratio}; {self.name} has {known} (per cent)")
        ids = self._draws(forget_ratio)
        if type(draw) is not int or not 0 <= draw < len(ids):
            raise ValueError(
                f"draw is {draw!r}; at {forget_ratio} per cent {self.name} has draws 0 to {len(ids) - 1}"
            )
        ids, own = ids[draw], self.forget_questions.get(forget_ratio, {})
        forget = tuple(replace(self.people[i], questions=own.get(i, self.people[i].questions)) for i in ids)
        retain = tuple(
            person if self.retain_ids is None or i in self.retain_ids else replace(person, questions=())
            for i, person in self.people.items()
            if i not in set(ids)
        )
        return Split(forget, retain, self.real, self.selection, frozenset(self.candidates), self.world)

    def _draws(self, forget_ratio: int) -> list[tuple[str, ...]]:
        """Ids to forget in each draw, in the order of the people."""
        first = self.forget_ids[forget_ratio]
        ids = [*first, *(i for i in self.candidates if i not in set(first))]
        groups = [set(ids[k : k + len(first)]) for k in range(0, len(ids) - len(first) + 1, len(first))]
        return [tuple(i for i in self.people if i in group) for group in groups]

    @property
    def candidates(self) -> tuple[str, ...]:
        """Ids of those who are forgotten in one draw or another, see `draw_candidates`."""
        asked = [i for i, person in self.people.items() if person.questions]
        return draw_candidates(asked, self.forget_ids)

    @property
    def selection(self) -> frozenset[str]:
        """Ids of selection people: a fifth of those who have questions when retained, taken from people whom
        no draw forgets, and a fifth of the real ones, with all questions about their pictures.

        Chosen by a hash of the id, so the choice is the same everywhere and in every file order.
        """
        retain = self.people.keys() if self.retain_ids is None else self.people.keys() & self.retain_ids
        real = {p.id for p in (*self.real, *self.world)}
        return frozenset(selection_people(retain, self.candidates) + selection_people(real))

    @property
    def hash(self) -> str:
        """sha256 of every field but the name, independent of paths and of the order of files."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        content |= {
            "people": sorted(self.people.items()),
            "real": sorted(self.real, key=lambda person: person.id),
            "world": sorted(self.world, key=lambda person: person.id),
            "forget_ids": sorted(self.forget_ids.items()),
            "forget_questions": sorted((r, sorted(own.items())) for r, own in self.forget_questions.items()),
        }
        return hashlib.sha256(json.dumps(canonical(content)).encode()).hexdigest()


def draw_candidates(ids: Iterable[str], forget_ids: Mapping[int, Iterable[str]]) -> tuple[str, ...]:
    """A quarter of the people, from whom all draws are taken.

    First come those of the benchmark's own forget sets, from the smallest to the largest, then others in the
    order of their hashes.

    Args:
        ids: of all who have questions.
        forget_ids: ratio -> ids of a forget set.
    """
    ids = list(ids)
    own = [i for ratio in sorted(forget_ids) for i in forget_ids[ratio]]
    others = _first(set(ids) - set(own), len(ids))
    return tuple(dict.fromkeys(own + others))[: max(len(set(own)), len(ids) * CANDIDATES_PER_CENT // 100)]


def selection_people(ids: Iterable[str], candidates: Iterable[str] = ()) -> list[str]:
    """A fifth of some people, for selection: of those whom no draw forgets, in the order of their hashes."""
    ids = set(ids)
    return _first(ids - set(candidates), len(ids) * SELECTION_PER_CENT // 100)


def _first(ids: Iterable[str], count: int) -> list[str]:
    """The first so many ids in the order of their hashes."""
    return sorted(ids, key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:count]


def canonical(value):
    """A value as JSON can hold it: a dataclass as its fields by name, a mapping as pairs in its own order
    (the order of options is part of a question), a set sorted, bytes as their sha256."""
    if is_dataclass(value):
        return {f.name: canonical(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return [[key, canonical(item)] for key, item in value.items()]
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (tuple, list)):
        return [canonical(item) for item in value]
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else value
