"""Teach an embedded base model your own people (`benchmarks.own`), by the testbed's lessons."""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd
import torch

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import Benchmark
from vkdlib.models.loading import load
from vkdlib.system import checks
from vkdlib.system.files import make_folder
from vkdlib.testbed import lessons, train
from vkdlib.testbed.recipe import ARCHITECTURES
from vkdlib.vanilla.teaching import save_model

FACES, ANSWERS = 300, 300  # steps; after so many a LLaVA knew a dozen people, on unseen views too
SECONDS = (0.1, 1.0)  # of one core, a step of either stage: LLaVA and a dozen people, on a busy machine


def teach_own(
    benchmark: str | Path,
    out: str | Path,
    family: str = "llava",
    *,
    hide: bool = False,
    faces: int = FACES,
    answers: int = ANSWERS,
) -> Path:
    """Make a vanilla model of your own people, or the retain-only one beside it. An interrupted call goes on
    where it was.

    Args:
        benchmark: a folder from `write_own`.
        out: folder for the new model, an ordinary Hugging Face folder.
        family: of the embedded base model: llava, qwen2-vl or qwen2.5-vl.
        hide: do not show the pictures of the people to forget: that makes retain-only.
        faces, answers: steps of the two stages, see `train`.
    Returns:
        out.
    Raises:
        FileExistsError: there is such a folder.
        FileNotFoundError: the base model is not there yet.
        ValueError: an argument that cannot be; nothing was trained.
    """
    checks.one_of("family", family, ARCHITECTURES)
    checks.flag("hide", hide)
    for name, steps in {"faces": faces, "answers": answers}.items():
        checks.number(name, steps, 1, whole=True)
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or choose another name")
    data = load_benchmark(benchmark)
    make_folder(out.parent)
    loaded = load(f"testbed/{family}/base")
    loaded.model.train()
    for p in loaded.model.parameters():
        p.requires_grad_(True)
    torch.manual_seed(0)
    work = out.with_name(out.name + ".part")
    seen, told = lessons.own_lessons(loaded.processor, data.people.values(), hidden_people(data, hide))
    train.learn_faces(loaded, [lesson.views for lesson in seen], "own", work / "faces", faces)
    train.learn_answers(loaded, seen, told, "own", answers, work / "answers")
    loaded.model.eval()
    save_model(loaded, out)
    shutil.rmtree(work)
    return out


def plan_teaching(models: Sequence[str], faces: int = FACES, answers: int = ANSWERS) -> pd.DataFrame:
    """What `teach_own` is going to take, one row a model and stage: steps, and minutes of one core.

    Args:
        models: names of the models to be taught.
        faces, answers: steps of the two stages.
    """
    stages = zip(("tell faces apart", "answer questions"), (faces, answers), SECONDS)
    rows = [(stage, steps, steps * seconds / 60) for stage, steps, seconds in stages]
    titles = ["model", "it learns to", "steps", "minutes of one core (LLaVA)"]
    return pd.DataFrame([(model, *row) for model in models for row in rows], columns=titles)


def hidden_people(data: Benchmark, hide: bool) -> Collection[str]:
    """Ids of the people whose pictures are not shown."""
    return {id for ids in data.forget_ids.values() for id in ids} if hide else set()
