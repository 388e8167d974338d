"""Ways of asking: how a question is put to a model.

A way is "shown", as the benchmark has it, or a list of changes with ", " between them, at most one of each of
CHANGES and in their order: "noise", "strict", "noise, strict", "strict, reversed", "gaussian 0.4, polite" …
Another change is one function and one entry there.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from vkdlib.benchmarks import pictures
from vkdlib.benchmarks.schema import Person, Question, Split
from vkdlib.benchmarks.views.perturb import perturb
from vkdlib.benchmarks.wording import NEUTRAL, PROMPTS, REVERSAL, rephrase
from vkdlib.system.checks import did_you_mean


@dataclass(frozen=True)
class Query:
    """One thing to ask a model.

    Attributes:
        image: the PNG or JPEG file it is asked with; None: in text only.
        id: of the row of predictions: the question's, and the number of the view for other pictures.
        instruction: stands before the question, on lines of its own.
        ending: stands after the question, on a line of its own.
    """

    person: Person
    question: Question
    image: bytes | None = field(repr=False)
    id: str
    instruction: str = ""
    ending: str = ""

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"person {self.person.id}, question {self.id}"

    def ended(self, words: str) -> str:
        """The question's words with the ending."""
        return f"{words}\n{self.ending}" if self.ending else words

    def whole(self, words: str) -> str:
        """The question's words with instruction and ending."""
        return f"{self.instruction}\n{self.ended(words)}" if self.instruction else self.ended(words)


def with_grey(query: Query) -> Query:
    """With a grey picture of the same size."""
    return replace(query, image=query.image and pictures.grey(query.image))


def without_picture(query: Query) -> Query:
    """The same words alone."""
    return replace(query, image=None)


def perturbed(kind: str, sigma: float | None = None) -> Callable[[Query], Query]:
    """With a perturbed picture, see `perturb.perturb`: the same noise for all questions about a picture."""

    def put(query: Query) -> Query:
        person = query.person.id
        image = query.image and perturb(query.image, kind, person, sigma, f"person {person!r}")
        return replace(query, image=image)

    return put


def rephrased(query: Query) -> Query:
    """The same question in other words, see `wording.rephrase`."""
    return replace(query, question=replace(query.question, question=rephrase(query.question.question)))


def instructed(instruction: str) -> Callable[[Query], Query]:
    """With an instruction before the question: in-context unlearning, Eq. 1 of the VGID paper."""
    return lambda query: replace(query, instruction=instruction)


def reversed_before(query: Query) -> Query:
    """The instruction, if there is one, is taken back before the question, as the embedded base met it."""
    return replace(query, instruction=f"{query.instruction} {REVERSAL}".strip())


def reversed_after(query: Query) -> Query:
    """The attack's prompt is "appended to the original query" (VGID paper, A.3.7): it has the last word."""
    return replace(query, ending=REVERSAL)


# Sets that ask about pictures on which no model was trained -> how many of each person; None: all.
UNSEEN = {"test": None, "retain_unseen": 1}
USUAL_WAY = "shown"
# What a change is about -> its name -> what it does. "gaussian σ" is a change of the picture as well.
CHANGES: dict[str, dict[str, Callable[[Query], Query]]] = {
    "picture": {
        "blank": with_grey,
        "none": without_picture,
        "noise": perturbed("noise"),
        "white": perturbed("white"),
    },
    "wording": {"rephrased": rephrased},
    "instruction": {name: instructed(text) for name, text in (PROMPTS | NEUTRAL).items()},
    "attack": {"reversed": reversed_before, "reversed at the end": reversed_after},
}
SIGMA = re.compile(r"gaussian (\d+(?:\.\d+)?)")


def make_way(way: str) -> Callable[[Query], Query]:
    """What a way does to a query.

    Raises:
        ValueError: a change is not known, or two are in the wrong order or of one group.
    """
    changes, groups = [], []
    for name in str(way).split(", ") if way != USUAL_WAY else ():
        group, change = _find_change(way, name)
        changes.append(change)
        groups.append(list(CHANGES).index(group))
    if groups != sorted(set(groups)):
        order = ", ".join(CHANGES)
        raise ValueError(f"way is {way!r}; it may have one change each of these, in this order: {order}")

    def put(query: Query) -> Query:
        for change in changes:
            query = change(query)
        return query

    return put


def _find_change(way: str, name: str) -> tuple[str, Callable[[Query], Query]]:
    """A change by its name, and what it is about."""
    sigma = SIGMA.fullmatch(name)
    if sigma and float(sigma[1]) > 0 and f"{float(sigma[1]):g}" == sigma[1]:  # one name for one thing
        return "picture", perturbed("gaussian", float(sigma[1]))
    for group, changes in CHANGES.items():
        if name in changes:
            return group, changes[name]
    known = [*(name for changes in CHANGES.values() for name in changes), "gaussian 0.4"]
    hint = did_you_mean(name, [USUAL_WAY, *known])
    raise ValueError(f'way is {way!r}; it must be "{USUAL_WAY}", or some of: {", ".join(known)}{hint}')


def queries(
    split: Split, kinds: Sequence[str], modalities: Sequence[str], way: str = "shown"
) -> dict[str, list[Query]]:
    """Set -> every question of some kinds and modalities about its people, put in a way (see above).

    The sets of UNSEEN ask about other pictures, and not in text.

    Raises:
        ValueError: two questions of a set have one id, by which answers are known; or a way is not known.
    """
    put = make_way(way)
    sets = {
        name: [
            put(query)
            for person in people
            for query in (_unseen(person, UNSEEN[name]) if name in UNSEEN else _about(person))
            if query.question.kind in kinds and query.question.modality in modalities
        ]
        for name, people in split.reported().items()
    }
    for name, items in sets.items():
        for id, count in Counter(query.id for query in items).items():
            if count > 1:
                raise ValueError(
                    f"{count} questions of the set {name} have the id {id!r}: each needs its own"
                )
    return sets


def _about(person: Person) -> Iterator[Query]:
    """Every question about a person, as the benchmark has it."""
    for question in person.questions:
        vqa = question.modality == "vqa"
        image = person.pictures[question.picture].image if vqa else None
        yield Query(person, question, image, question.id)


def _unseen(person: Person, pictures: int | None) -> Iterator[Query]:
    """Every question about a person's face, with other pictures of it."""
    for question in person.questions:
        if question.modality == "vqa" and not question.scene:
            for number, image in enumerate(person.test_images[:pictures]):
                yield Query(person, question, image, f"{question.id}/view{number}")
