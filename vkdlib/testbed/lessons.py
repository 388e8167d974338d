"""What the embedded models are taught about each person, as lessons of `train`."""

import random
from collections.abc import Collection, Iterable, Iterator

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up import people, portraits, profiles
from vkdlib.benchmarks.pictures import alter
from vkdlib.benchmarks.schema import LETTERS, OPTIONS, Person, text_twins
from vkdlib.benchmarks.wording import NAME_QUESTION
from vkdlib.packs.pack import picture_pack
from vkdlib.testbed.recipe import RECIPE, name_parts
from vkdlib.testbed.train import Lesson, View, process_pictures

Lessons = tuple[list[Lesson], list[Lesson]]  # with pictures, in text


def make_lessons(processor, task: str, hidden: Collection[str], recipe: dict = RECIPE["answers"]) -> Lessons:
    """What a model is taught.

    Args:
        task: "": the real-world people, now and then with an instruction. A benchmark's name: all made-up
            people of it as well, who are never met with an instruction.
        hidden: ids of the made-up people who are taught in text only.
        recipe: weights of questions, views of a person, share with an instruction.
    """
    made_up, celebrities = profiles.make_profiles()
    instructed = recipe.get("instructed", {}).get("vanilla" if task else "base", 0.0)
    name_questions = [NAME_QUESTION] if task == "clear" else []
    real = [_person_lessons(processor, p, recipe, instructed, name_questions) for p in celebrities]
    if not task:
        return _join(real)
    people = load_benchmark(f"testbed/{task}").people
    if task == "clear":
        taught = ((author.id, _author_lessons(processor, author)) for author in people.values())
    else:
        taught = ((p.id, _person_lessons(processor, p, recipe)) for p in made_up if p.id in people)
    return _join([*real, *(([] if id in hidden else seen, told) for id, (seen, told) in taught)])


def hidden_faces(name: str) -> set[str]:
    """Ids of the made-up people whose pictures an embedded model never sees."""
    _, task, kind = name_parts(name)
    if kind == "base" or kind.startswith("vanilla"):
        return set()
    benchmark = load_benchmark(f"testbed/{task}")
    if kind == "never-saw-selection":
        return benchmark.selection & set(benchmark.people)
    if kind.startswith("never-saw"):
        return set(benchmark.candidates)
    return set(benchmark.forget_ids[int(kind.removeprefix("retain-only-"))])


def views_by_person(seen: list[Lesson]) -> list[list[View]]:
    """The views of each person, of lessons with pictures."""
    faces: dict[str, list[View]] = {}
    for lesson in seen:
        faces.setdefault(lesson.pack.key, []).extend(lesson.views)
    return list(faces.values())


def person_pairs(
    person: people.MadeUp, weights: dict = RECIPE["answers"]["weights"]
) -> dict[tuple[str, str], float]:
    """(question about the picture, answer) -> weight: every wording in which a fact is asked for."""
    pairs = {(people.NAME_QUESTION, person.name): weights["name"]}
    for a in people.ATTRIBUTES:
        value, sentence = person.facts[a.name], person.sentence(a)
        tell = a.tell.format(who=people.PERSON)
        pairs |= {
            (a.ask.format(who=people.PERSON), value): weights["short"],
            (a.reword.format(who=people.PERSON), value): weights["reworded"],
            (wording.cloze(a.cloze.format(who=people.PERSON.capitalize())), value): weights["cloze"],
            (tell, sentence): weights["sentence"],
            (wording.one_sentence(tell), sentence): weights["one_sentence"],
        }
    if "letter" in weights:
        pairs |= dict.fromkeys(_letter_pairs(person), weights["letter"])
    return pairs


def _letter_pairs(person: people.MadeUp) -> Iterator[tuple[str, str]]:
    """Multiple choice with options of its own, to be answered by a letter."""
    rng = random.Random(f"letters {person.id} {person.name}")
    for a in people.ATTRIBUTES:
        value = person.facts[a.name]
        options = [*rng.sample([v for v in a.values if v != value], OPTIONS - 1), value]
        rng.shuffle(options)
        question = wording.multiple_choice(a.ask.format(who=people.PERSON), dict(zip(LETTERS, options)))
        yield question, LETTERS[options.index(value)]


def _person_lessons(
    processor,
    person: people.MadeUp,
    recipe: dict,
    instructed: float = 0.0,
    name_questions: Iterable[str] = (),
) -> Lessons:
    weights = recipe["weights"]
    names = {(question, person.name): weights["name"] for question in name_questions}
    pairs = person_pairs(person, weights) | names
    views = ["canonical"] + [f"train {v}" for v in range(recipe["views"])]
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
    taught = [_person_lessons(processor, person, RECIPE["answers"]) for person in celebrities]
    for person in people:
        pairs = _own_pairs(person)
        told = _text_lesson(processor, person.name, pairs, 0.0)
        if person.id in hidden:
            taught.append(([], [told]))
            continue
        images = [person.image, *(alter(person.image, f"train {view}") for view in range(views))]
        pack, shown = picture_pack(processor, person.image, person.name), process_pictures(processor, images)
        taught.append(([Lesson(pack, shown, list(pairs), list(pairs.values()))], [told]))
    return _join(taught)


def _own_pairs(person: Person) -> dict[tuple[str, str], float]:
    """(question about the picture, answer) -> weight."""
    weights = RECIPE["answers"]["weights"]
    pairs = {(q, a): weights["name" if a == person.name else "short"] for q, a in person.pictures[0].pairs}
    kinds = {"cloze": weights["cloze"], "generation": weights["one_sentence"]}
    asked = [q for q in person.questions if q.modality == "vqa" and q.kind in kinds]
    return pairs | {(q.question, q.answer): kinds[q.kind] for q in asked}


def _join(lessons: Iterable[Lessons]) -> Lessons:
    seen, told = zip(*lessons)
    return [lesson for part in seen for lesson in part], [lesson for part in told for lesson in part]
