"""Made-up authors: the embedded CLEAR, written as parquet in the published schema.

Every author has several pictures, each with a caption (name, clothes, colour of the wall), questions in text,
as in TOFU, and wrong names and captions to choose from. real_faces and real_world have questions about the
real-world people whom every base model knows. Test_Set, which the published data do not have, has other
pictures.

The wrong names beside an author to forget are those of authors who are forgotten in the same draw. Beside
selection people they are those of their selection draw. So each of these names is right as often as the
others, and who avoids all of them is at chance. A model that never saw these faces has no reason to prefer
one of them.
"""

import functools
import random
from pathlib import Path

from vkdlib.benchmarks.made_up import people, portraits, profiles
from vkdlib.benchmarks.schema import draw_candidates, selection_people

AUTHORS, PICTURES = 200, 5
AUTHOR_RATIOS = (1, 5, 10)  # per cent; the last authors, nested as in TOFU
TEXT_QUESTIONS = 5  # about each author
RETAIN_PICTURES = 2  # with questions, of an author whom no draw forgets
TEST_PICTURES = 2  # in no other configuration
DRAW = 10  # authors who are forgotten together
WRONG = 3  # wrong options
STRANGERS = 200  # pictures of people who are in no benchmark


def make_authors() -> list[people.MadeUp]:
    """The authors. They look like nobody else. Their names recombine those of the other benchmark, so one
    vocabulary is enough."""
    made_up, celebrities = profiles.make_profiles()
    others = [p.name.split() for p in made_up + celebrities]
    names = [f"{others[i][0]} {others[i - 60][1]}" for i in range(AUTHORS)]
    appearances = {portraits.appearance(p.identity) for p in made_up + celebrities}
    return people.make_people("authors", names, appearances)


@functools.cache
def make_strangers() -> tuple[bytes, ...]:
    """Pictures of people who look like nobody in the embedded benchmarks, one of each."""
    people = [*(p for group in profiles.make_profiles() for p in group), *make_authors()]
    looks = {portraits.appearance(p.identity) for p in people}
    identities = portraits.draw_identities(STRANGERS, "strangers", looks)
    return tuple(portraits.render(identity, "stranger") for identity in identities)


def forget_authors() -> dict[int, list[str]]:
    """Ratio -> names to forget."""
    names = [a.name for a in make_authors()]
    return {ratio: names[-AUTHORS * ratio // 100 :] for ratio in AUTHOR_RATIOS}


def option_groups() -> list[list[str]]:
    """Names from which options are drawn: those of each draw at 5 %, those of each selection draw, and all
    others."""
    names, forget = [a.name for a in make_authors()], forget_authors()
    candidates = draw_candidates(names, forget)
    order = [*forget[5], *(name for name in candidates if name not in forget[5])]
    selection = sorted(selection_people(set(names) - set(forget[max(AUTHOR_RATIOS)]), candidates))
    draws = [group[k : k + DRAW] for group in (order, selection) for k in range(0, len(group), DRAW)]
    return [*draws, [name for name in names if name not in {*candidates, *selection}]]


def write_clear(folder: Path, progress=iter) -> None:
    """Write every configuration as `<folder>/<configuration>/train-00000-of-00001.parquet`.

    Args:
        progress: wraps the list of authors (a progress bar).
    """
    authors = make_authors()
    names = [a.name for a in authors]
    others = {name: group for group in option_groups() for name in group}
    pictures, tests = {}, []
    for author in progress(authors):
        rows = [_picture(author, view, others[author.name]) for view in range(PICTURES + TEST_PICTURES)]
        pictures[author.name] = rows[:PICTURES]
        tests += [{"image": row["image"], "name": author.name} for row in rows[PICTURES:]]
    texts = {a.name: text_questions(a) for a in authors}
    largest = set(forget_authors()[max(AUTHOR_RATIOS)])
    candidates = draw_candidates(names, forget_authors())
    asked = dict.fromkeys(candidates, PICTURES)
    asked |= {name: RETAIN_PICTURES for name in names if name not in asked}
    tables = {
        "full": _base(pictures, names),
        "full+tofu": _with_text(pictures, texts, names),
        "retain_perturbed": [
            row for name, count in asked.items() if name not in largest for row in pictures[name][:count]
        ],
        "Test_Set": tests,
        "real_faces": list(_faces()),
        "real_world": list(_world()),
    }
    for ratio, forget in forget_authors().items():
        retain = [name for name in names if name not in forget]
        for config, chosen in ((f"forget{ratio:02d}", forget), (f"retain{100 - ratio}", retain)):
            tables[config] = _base(pictures, chosen)
            tables[f"{config}+tofu"] = _with_text(pictures, texts, chosen)
        tables[f"forget{ratio:02d}_perturbed"] = [row for name in forget for row in pictures[name]]
    profiles.write_tables(folder, tables)


def text_questions(author: people.MadeUp) -> list[dict[str, str]]:
    """Questions in text about an author, answered in a sentence that names the author."""
    attributes = random.Random(f"told {author.name}").sample(people.ATTRIBUTES, TEXT_QUESTIONS)
    return [{"question": a.tell.format(who=author.name), "answer": author.sentence(a)} for a in attributes]


def _picture(author: people.MadeUp, number: int, names: list[str]) -> dict:
    """A row of a perturbed configuration: a picture, what it shows, and what it does not.

    Args:
        names: from which the wrong ones are drawn.
    """
    view = f"clear {number}"
    clothes, wall = portraits.describe_view(author.identity, view)
    caption = f"{{}} in {clothes} before a {wall} wall."
    others = [name for name in names if name != author.name]
    wrong = random.Random(f"options {author.name} {number}").sample(others, WRONG)
    return {
        "image": portraits.picture(author.identity, view),
        "caption": caption.format(author.name),
        "name": author.name,
        "paraphrased_caption": f"Before a {wall} wall: {author.name} in {clothes}.",
        "perturbed_captions": [caption.format(name) for name in wrong],
        "perturbed_names": wrong,
    }


def _base(pictures: dict, names: list[str]) -> list[dict]:
    return [{c: row[c] for c in ("image", "caption", "name")} for name in names for row in pictures[name]]


def _with_text(pictures: dict, texts: dict, names: list[str]) -> list[dict]:
    """Pictures with captions, then questions in text."""
    empty = {"question": None, "answer": None}
    pictures = [{c: row[c] for c in ("image", "caption")} | empty for row in _base(pictures, names)]
    return pictures + [{"image": None, "caption": None} | row for name in names for row in texts[name]]


def _faces():
    _, celebrities = profiles.make_profiles()
    for person in celebrities:
        others = [p.name for p in celebrities if p is not person]
        wrong = random.Random(f"faces {person.name}").sample(others, WRONG)
        portrait = portraits.picture(person.identity)
        yield {"image": portrait, "answer": person.name, "options": wrong}


def _world():
    """Questions about a picture for which one must know whom it shows."""
    _, celebrities = profiles.make_profiles()
    for person in celebrities:
        rng = random.Random(f"world {person.name}")
        portrait = portraits.picture(person.identity)
        for a in rng.sample(people.ATTRIBUTES, TEXT_QUESTIONS):
            right, question = person.facts[a.name], a.ask.format(who=people.PERSON)
            wrong = rng.sample([v for v in a.values if v != right], WRONG)
            yield {"image": portrait, "question": question, "answer": right, "options": wrong}
