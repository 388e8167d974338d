"""Write the made-up MLLMU-Bench as parquet, in the published schema, so that one reader serves both."""

import json
import random
from pathlib import Path

from vkdlib.benchmarks.made_up import people, portraits

PEOPLE, CELEBRITIES = 200, 40
PROFILE_RATIOS = (5, 10, 15)  # per cent of the people
TEST_VIEWS = 3


def make_profiles() -> tuple[list[people.MadeUp], list[people.MadeUp]]:
    """The made-up people and the "real-world" ones, whom the base model knows already."""
    names = people.make_names(PEOPLE + CELEBRITIES)
    celebrities = people.make_people("celebrities", names[PEOPLE:])
    appearances = {portraits.appearance(p.identity) for p in celebrities}
    return people.make_people("people", names[:PEOPLE], appearances), celebrities


def profile_sets(count: int = PEOPLE) -> dict[str, list[str]]:
    """Ids of `forget_5`, `retain_95` and so on, each pair disjoint and together everybody.

    A smaller forget set is part of a larger one.

    Args:
        count: of people.
    """
    ids = [f"{i + 1:03d}" for i in range(count)]
    order, sets = random.Random("forget").sample(ids, len(ids)), {}
    for ratio in PROFILE_RATIOS:
        forget = set(order[: count * ratio // 100])
        sets[f"forget_{ratio}"] = [i for i in ids if i in forget]
        sets[f"retain_{100 - ratio}"] = [i for i in ids if i not in forget]
    return sets


def write_mllmu(folder: Path, progress=iter, count: int = PEOPLE) -> None:
    """Write every configuration as `<folder>/<configuration>/train-00000-of-00001.parquet`.

    Args:
        progress: wraps the list of people (a progress bar).
        count: of people, the first ones of all.
    """
    made_up, celebrities = make_profiles()
    rows, tests, pairs = {}, [], []
    for person in progress(made_up[:count]):
        row = rows[person.id] = people.evaluation_row(person)
        images = [portraits.picture(person.identity, f"test {view}") for view in range(TEST_VIEWS)]
        tests.append({c: value for c, value in row.items() if c != "image"} | {"images": images})
        metadata = [{"ID": person.id, "Question": q, "Answer": a} for q, a in people.training_pairs(person)]
        metadata = json.dumps(metadata, ensure_ascii=False)
        pairs.append({"image": row["image"], "ID": person.id, "metadata": metadata})
    tables = {"Full_Set": list(rows.values()), "Test_Set": tests, "ft_Data": pairs}
    tables["Retain_Set"] = [people.evaluation_row(person) for person in celebrities]
    tables |= {name: [rows[i] for i in ids] for name, ids in profile_sets(count).items()}
    write_tables(folder, tables)


def write_tables(folder: Path, tables: dict[str, list[dict]]) -> None:
    """A parquet file a configuration, with the image columns marked as images, as on the Hugging Face Hub."""
    from datasets import Dataset, Image, List
    from datasets.utils import disable_progress_bars

    disable_progress_bars()  # each would show an instant
    for name, rows in tables.items():
        data = Dataset.from_list(rows)
        for column, kind in {"image": Image(), "images": List(Image())}.items():
            data = data.cast_column(column, kind) if column in rows[0] else data
        (folder / name).mkdir(parents=True)
        data.to_parquet(folder / name / "train-00000-of-00001.parquet")
