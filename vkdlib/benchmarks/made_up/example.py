"""Made-up people as one would bring one's own: a table, a folder of pictures, and words for the questions."""

from pathlib import Path
from typing import NamedTuple

from vkdlib.benchmarks.made_up import people, portraits, profiles
from vkdlib.benchmarks.pictures import open_image
from vkdlib.system import files

PEOPLE, FORGET = 12, 3
SIZES = ((200, 200), (320, 320), (257, 257), (96, 96))  # pixels of their pictures, in turn
FACTS = people.ATTRIBUTES[:4]


class Example(NamedTuple):
    """Arguments of `own.write_own`, but for the folder that it writes."""

    table: Path
    pictures: Path
    forget: list[str]
    templates: dict[str, dict[str, str]]


def write_example(folder: str | Path, count: int = PEOPLE) -> Example:
    """Write people.csv and pictures/ of people whom no embedded model knows; the same ones every time.

    Args:
        folder: what is there of these names is replaced.
        count: of people, more than FORGET.
    Returns:
        the first FORGET of them are to be forgotten; `templates` has words of our own for the first fact.
    """
    made_up = example_people(count)
    example = Example(
        Path(folder, "people.csv"),
        Path(folder, "pictures"),
        [person.name for person in made_up[:FORGET]],
        {FACTS[0].name: {"say": FACTS[0].say, "clause": FACTS[0].clause}},
    )
    files.make_folder(example.pictures)
    rows = []
    for number, person in enumerate(made_up):
        file = example.pictures / f"{person.name.split()[0].lower()}.png"
        image = open_image(portraits.render(person.identity, "canonical"))
        image.resize(SIZES[number % len(SIZES)]).save(file)
        facts = {fact.name: person.facts[fact.name] for fact in FACTS}
        rows.append({"name": person.name, "picture": file.name, **facts})
    files.write_csv(example.table, rows)
    return example


def example_people(count: int = PEOPLE) -> list[people.MadeUp]:
    """People of the example: names and looks of nobody in the embedded benchmarks."""
    made_up, celebrities = profiles.make_profiles()
    known = {part for person in made_up + celebrities for part in person.name.split()}
    names = people.make_names(count + 100, seed=1)
    names = [name for name in names if known.isdisjoint(name.split())]
    looks = {portraits.appearance(person.identity) for person in made_up + celebrities}
    return people.make_people("example", names[:count], looks)
