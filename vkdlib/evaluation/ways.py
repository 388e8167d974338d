"""Ways of asking: how a question is put to a model. Another way is one function and one entry of WAYS."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from vkdlib.benchmarks import pictures
from vkdlib.benchmarks.schema import Person, Question, Split
from vkdlib.benchmarks.wording import NEUTRAL, PROMPTS, REVERSAL, rephrase


@dataclass(frozen=True)
class Query:
    """One thing to ask a model.

    Attributes:
        image: the PNG or JPEG file it is asked with; None: in text only.
        id: of the row of predictions: the question's, and the number of the view for other pictures.
        instruction: stands before the question, on a line of its own.
    """

    person: Person
    question: Question
    image: bytes | None
    id: str
    instruction: str = ""

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"person {self.person.id}, question {self.id}"


def with_picture(query: Query) -> Query:
    """As the benchmark has it."""
    return query


def with_grey(query: Query) -> Query:
    """With a grey picture of the same size."""
    return replace(query, image=query.image and pictures.grey(query.image))


def without_picture(query: Query) -> Query:
    """The same words alone."""
    return replace(query, image=None)


def rephrased(query: Query) -> Query:
    """The same question in other words, see `wording.rephrase`."""
    return replace(query, question=replace(query.question, question=rephrase(query.question.question)))


def instructed(instruction: str) -> Callable[[Query], Query]:
    """With an instruction before the question."""
    return lambda query: replace(query, instruction=instruction)


# Sets that ask about pictures on which no model was trained -> how many of each person; None: all.
UNSEEN = {"test": None, "retain_unseen": 1}
USUAL_WAY = "shown"
WAYS = {USUAL_WAY: with_picture, "blank": with_grey, "none": without_picture, "rephrased": rephrased}
WAYS |= {name: instructed(text) for name, text in (PROMPTS | NEUTRAL).items()}
WAYS |= {f"{name}, reversed": instructed(f"{text} {REVERSAL}") for name, text in PROMPTS.items()}


def queries(
    split: Split, kinds: Sequence[str], modalities: Sequence[str], way: str = "shown"
) -> dict[str, list[Query]]:
    """Set -> every question of some kinds and modalities about its people, put in one of WAYS.

    The sets of UNSEEN ask about other pictures, and not in text.

    Raises:
        ValueError: two questions of a set have one id, by which answers are known.
    """
    sets = {
        name: [
            WAYS[way](query)
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
