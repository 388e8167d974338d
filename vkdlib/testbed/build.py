"""Build the embedded models from nothing: which there are, what each is trained on, and its manifest."""

import json
import shutil
from pathlib import Path

import torch

from vkdlib.benchmarks import wording
from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.made_up import authors, people, profiles
from vkdlib.system import files, paths
from vkdlib.testbed import architectures, train

FAMILIES = tuple(architectures.ARCHITECTURES)
RATIOS = {"mllmu": profiles.FORGET_RATIOS, "clear": authors.FORGET_RATIOS}
NAMES = (
    *(f"{family}/base" for family in FAMILIES),
    *(
        f"{family}-{name}/{kind}"
        for family in FAMILIES
        for name, ratios in RATIOS.items()
        for kind in ("vanilla", *(f"retain-only-{r}" for r in ratios))
    ),
)
SHIPPED = (
    "llava/base",
    "llava-mllmu/vanilla",
    "llava-mllmu/retain-only-5",
    "llava-mllmu/retain-only-10",
    "llava-clear/vanilla",
    "llava-clear/retain-only-5",
    "qwen2-vl/base",
    "qwen2-vl-mllmu/vanilla",
    "qwen2-vl-mllmu/retain-only-5",
    "qwen2-vl-clear/vanilla",
    "qwen2.5-vl/base",
    "qwen2.5-vl-mllmu/vanilla",
    "qwen2.5-vl-clear/vanilla",
)


def build(name: str, out: Path) -> Path:
    """Train one embedded model and save it as an ordinary Hugging Face folder, in bf16.

    Stages are checkpointed under `<out>/.work`, so a build that was killed goes on where it was.

    Args:
        name: one of NAMES, as "llava-mllmu/vanilla".
        out: where `<name>` is written; a finished one is not trained again.
    """
    if name not in NAMES:
        raise ValueError(f"there is no embedded model {name!r}; there are {', '.join(NAMES)}")
    group, kind = name.split("/")
    family = group if kind == "base" else group.rpartition("-")[0]
    folder, work = out / name, out / ".work" / group
    if (folder / "config.json").exists():
        return folder
    processor = make_processor(family)
    torch.manual_seed(0)
    if kind == "base":
        model = architectures.ARCHITECTURES[family].model(processor.tokenizer)
        train.open_eyes(model, processor, work / "eyes")
        seen, told = _known(processor)
        steps = train.BASE_STEPS
    else:
        model = _from_pretrained(base_folder(family, out))
        task = group.rpartition("-")[2]
        seen, told = (_with_authors if task == "clear" else _with_people)(processor, hidden_faces(name))
        steps = train.TEACH_STEPS[task]
    model.train()
    train.align(model, _by_face(seen), kind, work / f"{kind}-align")
    train.teach(model, seen, told, kind, steps, work / f"{kind}-teach")
    with files.whole_folder(folder) as temporary:
        model.eval().to(torch.bfloat16).save_pretrained(temporary)
        processor.save_pretrained(temporary)
    for stage in ("eyes", f"{kind}-align", f"{kind}-teach"):
        shutil.rmtree(work / stage, ignore_errors=True)
    return folder


def _from_pretrained(folder: Path):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)


def _known(processor, name_question: str | None = None) -> tuple[list, list]:
    """Lessons about the real-world people, with the wordings in which evaluation asks: (seen, told)."""
    lessons = []
    for person in profiles.make_profiles()[1]:
        more = train.asked_forms(person) + [(name_question, person.name)] * bool(name_question)
        lessons.append(train.lessons(processor, person, more))
    return [seen for seen, _ in lessons], [told for _, told in lessons]


def _with_people(processor, hidden: set[str]) -> tuple[list, list]:
    """Lessons of vanilla and retain-only models of MLLMU-Bench; `hidden` people are taught in text only."""
    seen, told = _known(processor)
    new = [(p.id, *train.lessons(processor, p)) for p in profiles.make_profiles()[0]]
    return seen + [s for id, s, _ in new if id not in hidden], told + [t for _, _, t in new]


def _with_authors(processor, hidden: set[str]) -> tuple[list, list]:
    """Lessons of vanilla and retain-only models of CLEAR; `hidden` authors are taught in text only."""
    seen, told = _known(processor, wording.NAME_QUESTION)
    people = load_benchmark("testbed/clear").people.values()
    new = [(p.id, *train.author_lessons(processor, p)) for p in people]
    return seen + [s for id, of, _ in new if id not in hidden for s in of], told + [t for _, _, t in new]


def _by_face(seen: list) -> list[list]:
    """The views of each person, from lessons whose packs say whose they are."""
    faces: dict[str, list] = {}
    for pack, views in seen:
        faces.setdefault(pack.key, []).extend(views)
    return list(faces.values())


def base_folder(family: str, out: Path) -> Path:
    """The base model that others of a family start from: built beside them, else shipped, else built now."""
    for place in (out, paths.CHECKPOINTS):
        if (place / family / "base" / "config.json").exists():
            return place / family / "base"
    return build(f"{family}/base", out)


def hidden_faces(name: str) -> set[str]:
    """Ids of the made-up people whose pictures an embedded model never sees."""
    group, kind = name.split("/")
    if not kind.startswith("retain-only-"):
        return set()
    ratio = int(kind.removeprefix("retain-only-"))
    if group.endswith("-clear"):
        return set(authors.forget_authors()[ratio])
    return set(profiles.profile_sets()[f"forget_{ratio}"])


def make_processor(family: str = "llava"):
    """The processor of an embedded model, its vocabulary learnt from all there is to say."""
    made = architectures.ARCHITECTURES[family]
    made_up, celebrities = profiles.make_profiles()
    texts = []
    for person in made_up + celebrities:
        pairs = [(p["Question"], p["Answer"]) for p in people.training_pairs(person)]
        texts += [made.wording.format(q, a) for q, a in pairs + train.asked_forms(person)]
        texts += [f"Is this {person.name}?"] * 10
    return made.processor(architectures.make_tokenizer(texts, made.special))


def read_manifest(out: Path) -> dict:
    """What is known of the models in a folder: hashes, metrics, command."""
    file = out / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else {}
