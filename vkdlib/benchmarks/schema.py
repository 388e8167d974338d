"""A benchmark in memory: people, their questions, and who is forgotten, retained or kept for selection."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

KINDS = ("classification", "cloze", "generation")
MODALITIES = ("vqa", "qa")  # with the picture; by name, in text
PERSON_WORDS = re.compile(r"\b(?:this|the) (?:person|individual|man|woman)\b", re.IGNORECASE)
SELECTION_PER_CENT = 20
OPTIONS = 4  # of multiple choice; `data.load_benchmark` tells where it is another number


@dataclass(frozen=True)
class Question:
    """One evaluation question.

    Attributes:
        id: "<person>/<kind>/<modality>/<number>".
        modality: "vqa" (asked with a picture of the person) or "qa" (by name, in text).
        question: as it is put to the model; multiple choice without its options.
        answer: for classification the letter of the right option, else the right words.
        options: letter -> text; empty unless classification.
        picture: which of the person's pictures a vqa question is asked with.
    """

    id: str
    kind: str
    modality: str
    question: str
    answer: str
    options: Mapping[str, str] = field(default_factory=dict)
    picture: int = 0


@dataclass(frozen=True)
class Picture:
    """A PNG or JPEG file and its training pairs (question about the picture, answer)."""

    image: bytes
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
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


def text_twins(name: str, pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Training pairs with the name in place of "this person": same facts, no picture.

    Questions that do not say "this person", and the question for the name, have no twin.
    """
    twins = [(PERSON_WORDS.sub(name, q), q, a) for q, a in pairs]
    return tuple((twin, a) for twin, q, a in twins if twin != q and a != name)


@dataclass(frozen=True)
class Split:
    """Who is forgotten and who is kept.

    Attributes:
        forget, retain: made-up people; disjoint.
        real: real-world people.
        selection: ids of the people on whom settings may be chosen; they are never reported.
        world: pictures of the real world with questions (CLEAR), one "person" each; of the same id as the
            one of `real` who is on it.
    """

    forget: tuple[Person, ...]
    retain: tuple[Person, ...]
    real: tuple[Person, ...]
    selection: frozenset[str]
    world: tuple[Person, ...] = ()

    def reported(self) -> dict[str, tuple[Person, ...]]:
        """The sets that results are reported on, without selection people."""
        keep = {"forget": self.forget, "retain": self.retain, "test": self.forget}
        keep |= {"real": self.real, "world": self.world}
        return {k: tuple(p for p in v if p.id not in self.selection) for k, v in keep.items()}

    def for_selection(self, draw: int = 0) -> "Split":
        """The same task posed on selection people alone: forget some of them, keep everybody else.

        Args:
            draw: which of them to forget; draws 0, 1, ... have nobody in common.
        """
        ours = [p for p in self.retain if p.id in self.selection]
        size = len(self.forget)
        forget = tuple(ours[draw * size : (draw + 1) * size])
        if len(forget) < size:
            raise ValueError(f"draw is {draw}; there are {len(ours) // size} of {size} selection people each")
        gone = {p.id for p in forget}
        everyone = (*self.forget, *self.retain)
        retain = tuple(p for p in everyone if p.id not in gone)
        others = {p.id for p in (*everyone, *self.real, *self.world)} - self.selection
        return Split(forget, retain, self.real, frozenset(others), self.world)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark in memory.

    Attributes:
        people: id -> person, all who can be forgotten.
        real: real-world people.
        forget_ids: ratio in per cent -> ids of the people to forget.
        world: pictures of the real world (CLEAR).
        retain_asked: ids of the people who are asked questions when they are retained; None: everybody.
        forget_questions: ratio in per cent -> id -> what is asked at this ratio of people to forget, where
            that is not what `people` says.
    """

    name: str
    people: Mapping[str, Person]
    real: tuple[Person, ...]
    forget_ids: Mapping[int, tuple[str, ...]]
    world: tuple[Person, ...] = ()
    retain_asked: frozenset[str] | None = None
    forget_questions: Mapping[int, Mapping[str, tuple[Question, ...]]] = field(default_factory=dict)

    def split(self, forget_ratio: int) -> Split:
        """Forget and retain people at a ratio in per cent."""
        if forget_ratio not in self.forget_ids:
            known = ", ".join(map(str, self.forget_ids))
            raise ValueError(f"forget_ratio is {forget_ratio}; {self.name} has {known} (per cent)")
        gone, own = self.forget_ids[forget_ratio], self.forget_questions.get(forget_ratio, {})
        forget = tuple(replace(p, questions=own.get(p.id, p.questions)) for p in map(self.people.get, gone))
        kept = tuple(self._retained(p) for i, p in self.people.items() if i not in set(gone))
        return Split(forget, kept, self.real, self.selection, self.world)

    def _retained(self, person: Person) -> Person:
        asked = self.retain_asked is None or person.id in self.retain_asked
        return person if asked else replace(person, questions=())

    @property
    def selection(self) -> frozenset[str]:
        """Ids of selection people: as many as a fifth of all, out of those who are in no forget set, and a
        fifth of the real ones, with all that is asked about their pictures. Where only some are asked when
        retained, a fifth of these.

        Chosen by a hash of the id, so the choice is the same everywhere and in every file order.
        """
        forgotten = {i for ids in self.forget_ids.values() for i in ids}
        asked = set(self.people) if self.retain_asked is None else self.retain_asked
        chosen = set()
        others = {p.id for p in (*self.real, *self.world)}
        for group, total in ((self.people.keys() & (asked - forgotten), len(asked)), (others, len(others))):
            group = sorted(group, key=lambda i: hashlib.sha256(i.encode()).hexdigest())
            chosen |= set(group[: total * SELECTION_PER_CENT // 100])
        return frozenset(chosen)

    @property
    def hash(self) -> str:
        """sha256 of everything in the benchmark, independent of files, paths and their order."""
        digest = hashlib.sha256()
        for person in (*(self.people[i] for i in sorted(self.people)), *self.real, *self.world):
            digest.update(repr(person).encode())
        asked = self.retain_asked and sorted(self.retain_asked)
        digest.update(repr((sorted(self.forget_ids.items()), asked)).encode())
        if self.forget_questions:
            own = {ratio: sorted(found.items()) for ratio, found in self.forget_questions.items()}
            digest.update(repr(sorted(own.items())).encode())
        return digest.hexdigest()
