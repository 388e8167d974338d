"""Ways of asking: how a question is put to a model. Another way is one function and one entry of WAYS."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vkdlib.benchmarks import pictures
from vkdlib.benchmarks.schema import Person, Question


@dataclass(frozen=True)
class Query:
    """One thing to ask a model.

    Attributes:
        image: the PNG or JPEG file it is asked with; None: in text only.
        id: of the row of predictions: the question's, and the number of the view for other pictures.
    """

    person: Person
    question: Question
    image: bytes | None
    id: str


def shown(query: Query) -> Query:
    """As the benchmark has it."""
    return query


def blank(query: Query) -> Query:
    """With a grey picture of the same size."""
    return replace(query, image=query.image and pictures.grey(query.image))


def none(query: Query) -> Query:
    """Without the picture."""
    return replace(query, image=None)


WAYS: Mapping[str, Callable[[Query], Query]] = {"shown": shown, "blank": blank, "none": none}


def queries(
    name: str, people: Iterable[Person], kinds: Sequence[str], modalities: Sequence[str]
) -> list[Query]:
    """Every question of some kinds and modalities about the people of a set.

    The set "test" asks about other pictures, of which a person may have any number, and not in text.
    """
    ask = _views if name == "test" else _portrait
    return [
        query
        for person in people
        for question in person.questions
        if question.kind in kinds and question.modality in modalities
        for query in ask(person, question)
    ]


def _portrait(person: Person, question: Question) -> list[Query]:
    vqa = question.modality == "vqa"
    return [Query(person, question, person.pictures[question.picture].image if vqa else None, question.id)]


def _views(person: Person, question: Question) -> list[Query]:
    images = person.test_images if question.modality == "vqa" else ()
    return [Query(person, question, image, f"{question.id}/view{v}") for v, image in enumerate(images)]
