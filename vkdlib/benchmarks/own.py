"""Your own people: a table of names, pictures and facts (`own_table`) becomes a benchmark in MLLMU-Bench's
schema.

The first picture of a person is trained on; the others are those of the test set, or altered views of the
first where there is no other.
"""

import json
import os
import random
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up.people import (
    Attribute,
    MadeUp,
    choice_questions,
    evaluation_row,
    open_questions,
    training_pairs,
)
from vkdlib.benchmarks.made_up.profiles import TEST_VIEWS, make_profiles, write_tables
from vkdlib.benchmarks.own_table import (
    NAME,
    SMALLEST,
    OwnPerson,
    check_control,
    check_secret,
    fact_titles,
    read_people,
    table_rows,
)
from vkdlib.benchmarks.parquet import DataError
from vkdlib.benchmarks.pictures import alter, square
from vkdlib.benchmarks.schema import draw_candidates, selection_people
from vkdlib.benchmarks.wording import comparison_key
from vkdlib.system.checks import check_names, check_type, did_you_mean, text, whole_number
from vkdlib.system.files import make_folder, whole_folder

TEMPLATES = ("ask", "reword", "tell", "say", "clause")


def write_own(
    table: str | Path,
    pictures: str | Path,
    out: str | Path,
    forget: Sequence[str],
    templates: dict[str, dict[str, str]] | None = None,
    side: int | None = None,
) -> Path:
    """Write a benchmark of your own people, which `load_benchmark` reads.

    Its "real-world people" are those of the testbed, whom the embedded base models know.

    Args:
        table: a CSV file in UTF-8, see `own_table`.
        pictures: the folder of the pictures.
        out: a new folder; it appears only when it is whole.
        forget: names of the people to forget; they are draw 0 at the only ratio there is.
        templates: fact -> template -> its words, where they are not those of `default_questions`.
        side: of square pictures, in pixels, see `pictures.square`; None: they keep their shape, and at most
            `own_table.KEPT` pixels of the longer side. The embedded models see squares of `portraits.SIZE`.
    Returns:
        out.
    Raises:
        FileExistsError: there is such a folder.
        DataError, ValueError: something in the table, the pictures or the arguments is wrong.
    """
    table, pictures, out = Path(table), Path(pictures), Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or choose another name")
    rows = table_rows(table)
    questions = make_questions(table, rows, {} if templates is None else templates)
    people = read_people(table, rows, pictures)
    if side is not None:
        side = whole_number("side", side, SMALLEST)
        people = [replace(own, pictures=tuple(square(p, side) for p in own.pictures)) for own in people]
    sets = forget_sets(table, [own.person for own in people], forget)
    make_folder(out.parent)
    with whole_folder(out) as temporary:
        write_tables(temporary, benchmark_tables(people, questions, sets))
    return out


def keep_own(
    table: str | Path,
    pictures: str | Path,
    home: str | Path,
    forget: Sequence[str],
    templates: dict[str, dict[str, str]] | None = None,
    side: int | None = None,
) -> Path:
    """The benchmark of your own people in `<home>/<hash>/benchmark`: written there, or found, if it is what
    was written before. Other people, facts, pictures or words have another hash.

    Args:
        home: folder of all such benchmarks.
        table, pictures, forget, templates, side: see `write_own`, also for what is raised.
    Returns:
        the benchmark's folder.
    """
    make_folder(Path(home))
    with tempfile.TemporaryDirectory(dir=home) as temporary:
        new = write_own(table, pictures, Path(temporary, "benchmark"), forget, templates, side)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # who loads it next is warned
            folder = Path(home, load_benchmark(new).hash[:12], new.name)
        if not folder.exists():
            make_folder(folder.parent)
            os.replace(new, folder)
    return folder


def benchmark_tables(
    people: Sequence[OwnPerson], questions: Sequence[Attribute], sets: Mapping[str, set[str]]
) -> dict[str, list[dict]]:
    """Configuration -> rows, as `made_up.profiles` has them for made-up people."""
    rows = {own.person.id: own_row(own, questions) for own in people}
    tests, pairs = [], []
    for own in people:
        row = rows[own.person.id]
        views = own.pictures[1:] or [alter(own.pictures[0], f"test {view}") for view in range(TEST_VIEWS)]
        images = [{"bytes": view, "path": None} for view in views]
        tests.append({c: value for c, value in row.items() if c != "image"} | {"images": images})
        lessons = training_pairs(own.person, questions)
        metadata = [{"ID": own.person.id, "Question": q, "Answer": a} for q, a in lessons]
        metadata = json.dumps(metadata, ensure_ascii=False)
        pairs.append({"image": row["image"], "ID": own.person.id, "metadata": metadata})
    tables = {"Full_Set": list(rows.values()), "Test_Set": tests, "ft_Data": pairs}
    tables["Retain_Set"] = [evaluation_row(person) for person in make_profiles()[1]]
    return tables | {name: [rows[i] for i in rows if i in ids] for name, ids in sets.items()}


def own_row(own: OwnPerson, questions: Sequence[Attribute]) -> dict:
    """One row of an evaluation configuration: every fact as a choice, a cloze and a sentence."""
    person = own.person
    rng = random.Random(f"questions {person.id} {person.name}")
    return {
        "image": {"bytes": own.pictures[0], "path": f"{person.id}.png"},
        "ID": person.id,
        "biography": json.dumps({"Name": person.name, **person.facts}, ensure_ascii=False),
        "question": "",
        "answer": "",
        "Classification_Task": choice_questions(person, questions, rng),
        "Generation_Task": open_questions(
            person, [(a.tell, person.sentence(a, questions)) for a in questions]
        ),
        "Mask_Task": open_questions(person, [(a.cloze, person.facts[a.name]) for a in questions]),
    }


def default_questions(fact: str) -> dict[str, str]:
    """The templates of a fact; {who} is the person, {value} the fact."""
    return {
        "ask": f"What is the {fact} of {{who}}?",
        "reword": f"Which {fact} does {{who}} have?",
        "tell": f"What do you know about {{who}} and the {fact}?",
        "say": f"The {fact} of {{who}} is {{value}}.",
        "clause": f"{fact} {{value}}",
    }


def make_questions(
    file: Path, rows: Sequence[Mapping[str, str]], templates: dict[str, dict[str, str]]
) -> list[Attribute]:
    """The questions about each fact, with all its values as options.

    Raises:
        DataError: everybody has the same fact; a template gives a name away, or holds a control token.
        ValueError: a template is of no fact, is not known, or lacks {who} or {value}.
    """
    facts, names = fact_titles(rows[0]), [row[NAME] for row in rows]
    check_type("templates", templates, dict)
    check_names("templates: the table", templates, facts)
    questions = []
    for fact in facts:
        values = sorted({row[fact] for row in rows})
        if len(values) < 2:
            raise DataError(
                f"{file}, column {fact!r}: everybody has {rows[0][fact]!r}, so there is nothing to choose "
                "from: leave the column out"
            )
        own = templates.get(fact, {})
        check_type(f"templates: {fact}", own, dict)
        check_names(f"templates: {fact}", own, TEMPLATES)
        for kind, template in own.items():
            _check_template(f"templates: {fact}, {kind}", template, kind, names)
        questions.append(Attribute(fact, **default_questions(fact) | own, values=values))
    return questions


def _check_template(place: str, template: str, kind: str, names: Sequence[str]) -> None:
    """Raise ValueError unless a template holds what it must, no other brace, and nobody's name."""
    text(place, template)
    fields = {"say": {"{who}", "{value}"}, "clause": {"{value}"}}.get(kind, {"{who}"})
    if set(re.findall(r"\{.*?\}|[{}]", template)) != fields:
        raise ValueError(
            f"{place} is {template!r}; it must hold {' and '.join(sorted(fields))}, no other brace"
        )
    check_control(place, template)
    for name in names:
        check_secret(place, template.format(who="", value=""), name)


def forget_sets(file: Path, people: Sequence[MadeUp], forget: Sequence[str]) -> dict[str, set[str]]:
    """Ids of `forget_<ratio>` and of those to retain.

    Raises:
        ValueError: a name is not in the table, is there twice, or nobody is left on one side, or nobody who
            is reported.
    """
    if isinstance(forget, str) or not isinstance(forget, Sequence) or not forget:
        raise ValueError(f"forget is {forget!r}; it must be a list of names in {file}")
    ids = {comparison_key(person.name): person.id for person in people}
    names = [person.name for person in people]
    forget_ids = set()
    for name in forget:
        id = ids.get(comparison_key(name)) if isinstance(name, str) else None
        if id is None:
            hint = did_you_mean(name, names)
            raise ValueError(f"forget: {name!r} is nobody in {file}; it has {', '.join(names)}{hint}")
        if id in forget_ids:
            raise ValueError(f"forget: {name!r} is there twice")
        forget_ids.add(id)
    if len(forget_ids) == len(people):
        raise ValueError(f"forget: it names all {len(people)} people of {file}; leave somebody to keep")
    ratio = min(99, max(1, round(100 * len(forget_ids) / len(people))))
    everybody = [person.id for person in people]
    others = set(everybody) - forget_ids
    candidates = draw_candidates(everybody, {ratio: sorted(forget_ids)})
    if others <= {*candidates, *selection_people(everybody, candidates)}:
        raise ValueError(
            f"forget: it names {len(forget_ids)} of {len(people)} people of {file}, and no table would "
            "report the others: a fifth of the people is kept for choosing settings. Forget fewer, or add "
            "people"
        )
    return {f"forget_{ratio}": forget_ids, f"retain_{100 - ratio:02d}": others}
