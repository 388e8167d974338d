"""A benchmark in memory: people, their questions, and who is forgotten, retained or kept for selection."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = ("classification", "cloze", "generation")
MODALITIES = ("vqa", "qa")  # with the picture; by name, in text
PERSON_WORDS = re.compile(r"\b(?:this|the) (?:person|individual|man|woman)\b", re.IGNORECASE)
SELECTION_PER_CENT = 20


@dataclass(frozen=True)
class Question:
    """One evaluation question.

    Attributes:
        id: "<person>/<kind>/<modality>/<number>".
        modality: "vqa" (asked with the person's picture) or "qa" (by name, in text).
        answer: for classification the letter of the right option, else the right words.
        options: letter -> text; empty unless classification.
    """

    id: str
    kind: str
    modality: str
    question: str
    answer: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Person:
    """A person: pictures, training pairs (question about the picture, answer), evaluation questions."""

    id: str
    name: str
    image: bytes
    pairs: tuple[tuple[str, str], ...] = ()
    questions: tuple[Question, ...] = ()
    test_images: tuple[bytes, ...] = ()

    @property
    def text_pairs(self) -> tuple[tuple[str, str], ...]:
        """The training pairs with the name in place of "this person": same facts, no picture.

        Questions that do not say "this person", and the question for the name, have no twin.
        """
        twins = [(PERSON_WORDS.sub(self.name, q), q, a) for q, a in self.pairs]
        return tuple((twin, a) for twin, q, a in twins if twin != q and a != self.name)


@dataclass(frozen=True)
class Split:
    """Who is forgotten and who is kept.

    Attributes:
        forget, retain: made-up people; disjoint.
        real: real-world people.
        selection: ids of the people on whom settings may be chosen; they are never reported.
    """

    forget: tuple[Person, ...]
    retain: tuple[Person, ...]
    real: tuple[Person, ...]
    selection: frozenset[str]

    def reported(self) -> dict[str, tuple[Person, ...]]:
        """The sets that results are reported on, without selection people."""
        keep = {"forget": self.forget, "retain": self.retain, "test": self.forget, "real": self.real}
        return {k: tuple(p for p in v if p.id not in self.selection) for k, v in keep.items()}

    def for_selection(self) -> "Split":
        """The same task posed on selection people alone: forget some of them, keep everybody else."""
        ours = [p for p in self.retain if p.id in self.selection]
        forget = tuple(ours[: len(self.forget)])
        gone = {p.id for p in forget}
        judged = {p.id for p in ours} | {p.id for p in self.real if p.id in self.selection}
        everyone = (*self.forget, *self.retain)
        retain = tuple(p for p in everyone if p.id not in gone)
        others = {p.id for p in (*everyone, *self.real)} - judged
        return Split(forget, retain, self.real, frozenset(others))


@dataclass(frozen=True)
class Benchmark:
    """A benchmark in memory: people by id, real-world people, and the ids of each forget set."""

    name: str
    people: Mapping[str, Person]
    real: tuple[Person, ...]
    forget_ids: Mapping[int, tuple[str, ...]]

    def split(self, forget_ratio: int) -> Split:
        """Forget and retain people at a ratio in per cent (5, 10 or 15)."""
        if forget_ratio not in self.forget_ids:
            known = ", ".join(map(str, self.forget_ids))
            raise ValueError(f"forget_ratio is {forget_ratio}; {self.name} has {known} (per cent)")
        forget = self.forget_ids[forget_ratio]
        kept = [p for i, p in self.people.items() if i not in set(forget)]
        return Split(tuple(self.people[i] for i in forget), tuple(kept), self.real, self.selection)

    @property
    def selection(self) -> frozenset[str]:
        """Ids of selection people: a fifth of those who are in no forget set, and of the real ones.

        Chosen by a hash of the id, so the choice is the same everywhere and in every file order.
        """
        asked = {i for ids in self.forget_ids.values() for i in ids}
        chosen = set()
        for group, total in (
            ([i for i in self.people if i not in asked], len(self.people)),
            ([p.id for p in self.real], len(self.real)),
        ):
            group = sorted(group, key=lambda i: hashlib.sha256(i.encode()).hexdigest())
            chosen |= set(group[: total * SELECTION_PER_CENT // 100])
        return frozenset(chosen)

    @property
    def hash(self) -> str:
        """sha256 of everything in the benchmark, independent of files, paths and their order."""
        digest = hashlib.sha256()
        for person in (*(self.people[i] for i in sorted(self.people)), *self.real):
            digest.update(repr(person).encode())
        digest.update(repr(sorted(self.forget_ids.items())).encode())
        return digest.hexdigest()
