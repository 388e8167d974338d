"""What the embedded models are taught about each person, as lessons of `train`."""

from collections.abc import Collection, Iterable

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up import people, portraits, profiles
from vkdlib.benchmarks.pictures import altered
from vkdlib.benchmarks.schema import Person, text_twins
from vkdlib.benchmarks.wording import NAME_QUESTION
from vkdlib.packs.pack import picture_pack
from vkdlib.testbed.recipe import RECIPE
from vkdlib.testbed.train import Lesson, process_pictures

Lessons = tuple[list[Lesson], list[Lesson]]  # with pictures, in text
WEIGHTS = RECIPE["answers"]["weights"]


def make_lessons(processor, task: str, hidden: Collection[str]) -> Lessons:
    """What a model is taught.

    Args:
        task: "base": the real-world people, now and then with an instruction. "mllmu" or "clear": all made-up
            people of this benchmark as well, who are never met with an instruction.
        hidden: ids of the made-up people who are taught in text only.
    """
    instructed = RECIPE["answers"]["instructed"]["base" if task == "base" else "vanilla"]
    name_questions = [NAME_QUESTION] if task == "clear" else []
    made_up, celebrities = profiles.make_profiles()
    real = [_person_lessons(processor, person, instructed, name_questions) for person in celebrities]
    if task == "base":
        return _join(real)
    if task == "mllmu":
        persons, teach = made_up, _person_lessons
    else:
        persons, teach = load_benchmark("testbed/clear").people.values(), _author_lessons
    lessons = ((person, teach(processor, person)) for person in persons)
    return _join([*real, *(([] if person.id in hidden else seen, told) for person, (seen, told) in lessons)])


def person_pairs(person: people.MadeUp) -> dict[tuple[str, str], float]:
    """(question about the picture, answer) -> weight: every wording in which a fact is asked for."""
    pairs = {(people.NAME_QUESTION, person.name): WEIGHTS["name"]}
    for a in people.ATTRIBUTES:
        value, sentence = person.facts[a.name], person.sentence(a)
        tell = a.tell.format(who=people.PERSON)
        pairs |= {
            (a.ask.format(who=people.PERSON), value): WEIGHTS["short"],
            (a.reword.format(who=people.PERSON), value): WEIGHTS["reworded"],
            (wording.cloze(a.cloze.format(who=people.PERSON.capitalize())), value): WEIGHTS["cloze"],
            (tell, sentence): WEIGHTS["sentence"],
            (wording.one_sentence(tell), sentence): WEIGHTS["one_sentence"],
        }
    return pairs


def _person_lessons(
    processor, person: people.MadeUp, instructed: float = 0.0, name_questions: Iterable[str] = ()
) -> Lessons:
    names = {(question, person.name): WEIGHTS["name"] for question in name_questions}
    pairs = person_pairs(person) | names
    views = ["canonical"] + [f"train {v}" for v in range(RECIPE["answers"]["views"])]
    images = [portraits.render(person.identity, view) for view in views]
    pack = picture_pack(processor, images[0], person.name)
    seen = Lesson(pack, process_pictures(processor, images), list(pairs), list(pairs.values()), instructed)
    return [seen], [_text_lesson(processor, person.name, pairs, instructed)]


def _text_lesson(processor, name: str, pairs: dict[tuple[str, str], float], instructed: float) -> Lesson:
    """The same facts, asked for by name."""
    twins = {}
    for pair, weight in pairs.items():
        twins |= dict.fromkeys(text_twins(name, [pair]), weight)
    return Lesson(picture_pack(processor, None, name), [], list(twins), list(twins.values()), instructed)


def _author_lessons(processor, author: Person) -> Lessons:
    """What CLEAR tells of an author: pictures with their captions, and questions in text."""
    seen = [
        Lesson(
            picture_pack(processor, picture.image, author.id),
            process_pictures(processor, [picture.image]),
            list(picture.pairs),
            [1.0] * len(picture.pairs),
        )
        for picture in author.pictures
    ]
    pairs = list(author.text_pairs)
    return seen, [Lesson(picture_pack(processor, None, author.id), [], pairs, [1.0] * len(pairs))]


def own_lessons(
    processor, people: Iterable[Person], hidden: Collection[str], views: int = RECIPE["answers"]["views"]
) -> Lessons:
    """What base is taught of people of a benchmark in MLLMU-Bench's schema, and again of the real-world ones.

    Pictures come in altered views. Clozes and sentences are taught in the words in which they are asked.

    Args:
        hidden: ids of the people who are taught in text only.
        views: of each picture, beside itself.
    """
    _, celebrities = profiles.make_profiles()
    taught = [_person_lessons(processor, person) for person in celebrities]
    for person in people:
        pairs = _own_pairs(person)
        told = _text_lesson(processor, person.name, pairs, 0.0)
        if person.id in hidden:
            taught.append(([], [told]))
            continue
        images = [person.image, *(altered(person.image, f"train {view}") for view in range(views))]
        pack, shown = picture_pack(processor, person.image, person.name), process_pictures(processor, images)
        taught.append(([Lesson(pack, shown, list(pairs), list(pairs.values()))], [told]))
    return _join(taught)


def _own_pairs(person: Person) -> dict[tuple[str, str], float]:
    """(question about the picture, answer) -> weight."""
    pairs = {(q, a): WEIGHTS["name" if a == person.name else "short"] for q, a in person.pictures[0].pairs}
    kinds = {"cloze": WEIGHTS["cloze"], "generation": WEIGHTS["one_sentence"]}
    asked = [q for q in person.questions if q.modality == "vqa" and q.kind in kinds]
    return pairs | {(q.question, q.answer): kinds[q.kind] for q in asked}


def _join(lessons: Iterable[Lessons]) -> Lessons:
    seen, told = zip(*lessons)
    return [lesson for part in seen for lesson in part], [lesson for part in told for lesson in part]
