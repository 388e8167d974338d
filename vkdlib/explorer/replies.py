"""Answers of several models side by side, with the probabilities of what could be answered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vkdlib.benchmarks.schema import Person, Question
from vkdlib.benchmarks.wording import NAME_QUESTION
from vkdlib.evaluation.evaluate import generate
from vkdlib.explorer.patches import View, hide
from vkdlib.models.loaded import Loaded
from vkdlib.packs.pack import batches
from vkdlib.public.ask import answer_logprobs
from vkdlib.system.progress import bar

AT_ONCE = 16  # pictures in a batch


@dataclass(frozen=True)
class Inquiry:
    """What is asked about a picture.

    Attributes:
        options: what may be answered; none for a question of the user's own.
        right: the right answer; None if nobody knows it.
    """

    words: str
    options: tuple[str, ...] = ()
    right: str | None = None


@dataclass(frozen=True)
class Reply:
    """What a model makes of an inquiry.

    Attributes:
        text: its own words, most likely word by word.
        probabilities: of the options among themselves; without options, of all models' answers, each by
            itself.
    """

    text: str
    probabilities: dict[str, float]


def inquiries(person: Person) -> list[Inquiry]:
    """What can be asked about a person's portrait: the name, and the benchmark's multiple choice."""
    name = next((q for q, answer in person.pictures[0].pairs if answer == person.name), NAME_QUESTION)
    choices = [q for q in person.questions if q.modality == "vqa" and q.options and q.picture == 0]
    return [Inquiry(name, right=person.name), *map(_choice, choices)]


def _choice(question: Question) -> Inquiry:
    options = tuple(question.options.values())
    return Inquiry(question.question, options, question.options[question.answer])


def replies(models: Mapping[str, Loaded], picture: bytes | None, inquiry: Inquiry) -> dict[str, Reply]:
    """What each model answers, side by side.

    Args:
        picture: a PNG or JPEG file; None asks in text alone.
    Returns:
        model -> reply; the probabilities of all of them are of the same answers.
    """
    texts = {name: write(loaded, [picture], inquiry)[0] for name, loaded in models.items()}
    answers = possible_answers(inquiry, texts.values())
    return {
        name: Reply(texts[name], probabilities(loaded, [picture], inquiry, answers)[0])
        for name, loaded in models.items()
    }


def hidden_replies(
    loaded: Loaded, view: View, inquiry: Inquiry, answers: Sequence[str], reach: int = 0
) -> list[Reply]:
    """What a model answers with each square of the picture hidden, in turn.

    Args:
        answers: whose probabilities are wanted; of the inquiry's options, if it has any.
        reach: 1 hides the squares around it, too.
    """
    rows, columns = view.squares
    pictures = [hide(view, view.around(square, reach)) for square in range(rows * columns)]
    groups, rows = list(batches(pictures, AT_ONCE)), []
    for group in bar(groups, f"{loaded.name}: hiding squares"):
        shares = probabilities(loaded, group, inquiry, answers)
        rows += map(Reply, write(loaded, group, inquiry), shares)
    return rows


def possible_answers(inquiry: Inquiry, texts: Iterable[str]) -> tuple[str, ...]:
    """The options; where there are none, the right answer and what models wrote."""
    return inquiry.options or tuple(dict.fromkeys(filter(None, [inquiry.right, *texts])))


def write(loaded: Loaded, pictures: Sequence[bytes | None], inquiry: Inquiry) -> list[str]:
    """A model's own words about each picture; options are not shown to it."""
    images = None if None in pictures else pictures
    return generate(loaded, [inquiry.words] * len(pictures), images)


def probabilities(
    loaded: Loaded, pictures: Sequence[bytes | None], inquiry: Inquiry, answers: Sequence[str]
) -> list[dict[str, float]]:
    """Of each picture, how probable each answer is: of options among themselves, as tables count them
    (`metrics.option_probability`); of other answers all their words and the end."""
    if not answers:
        return [{} for _ in pictures]
    sums = answer_logprobs(loaded, pictures, inquiry.words, answers)  # (answers,) each
    shares = [s.softmax(0) if inquiry.options else s.exp() for s in sums]
    return [dict(zip(answers, share.tolist())) for share in shares]
