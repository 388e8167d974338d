"""Build the embedded models from nothing: which there are, what each is trained on, and its manifest."""

import json
import re
import shutil
from pathlib import Path

import torch

from vkdlib import paths
from vkdlib.testbed import architectures, benchmark, people, train

SHIPPED = ("llava/base", "llava-mllmu/vanilla", "llava-mllmu/retain-only-5", "llava-mllmu/retain-only-10")
KINDS = ("vanilla", *(f"retain-only-{r}" for r in benchmark.FORGET_RATIOS))
NAMES = (
    *(f"{family}/base" for family in architectures.ARCHITECTURES),
    *(f"{family}-mllmu/{kind}" for family in architectures.ARCHITECTURES for kind in KINDS),
)


def build(name: str, out: Path) -> Path:
    """Train one embedded model and save it as an ordinary Hugging Face folder, in bf16.

    Stages are checkpointed under `<out>/.work`, so a build that was killed goes on where it was.

    Args:
        name: one of NAMES, as "llava-mllmu/vanilla".
        out: where `<name>` is written; a finished one is not trained again.
    """
    group, kind = name.split("/")
    family = group.removesuffix("-mllmu")
    folder, work = out / name, out / ".work" / group
    if (folder / "config.json").exists():
        return folder
    processor = make_processor(family)
    made_up, celebrities = benchmark.cast()
    torch.manual_seed(0)
    model = architectures.ARCHITECTURES[family].model(processor.tokenizer)
    known = [train.lessons(processor, p, known=True) for p in celebrities]
    if kind == "base":
        train.open_eyes(model, processor, work / "eyes")
        seen, told, steps = [s for s, _ in known], [t for _, t in known], train.BASE_STEPS
    else:
        model = type(model).from_pretrained(base_folder(family, out), dtype=torch.float32)
        hidden = hidden_faces(kind)
        new = [train.lessons(processor, p, known=False) for p in made_up]
        seen = [s for s, _ in known] + [s for p, (s, _) in zip(made_up, new) if p.id not in hidden]
        told, steps = [t for _, t in known + new], train.TEACH_STEPS
    model.train()
    train.align(model, [views for _, views in seen], kind, work / f"{kind}-align")
    train.teach(model, seen, told, kind, steps, work / f"{kind}-teach")
    save(model.eval().to(torch.bfloat16), processor, folder)
    for stage in ("eyes", f"{kind}-align", f"{kind}-teach"):
        shutil.rmtree(work / stage, ignore_errors=True)
    return folder


def base_folder(family: str, out: Path) -> Path:
    """The base model that others of a family start from: built beside them, else shipped, else built now."""
    for place in (out, paths.CHECKPOINTS):
        if (place / family / "base" / "config.json").exists():
            return place / family / "base"
    return build(f"{family}/base", out)


def hidden_faces(kind: str) -> list[str]:
    """Ids of the made-up people whose pictures a model never sees."""
    if kind == "vanilla":
        return []
    match = re.fullmatch(r"retain-only-(\d+)", kind)
    if not match or kind not in KINDS:
        raise ValueError(f"unknown model {kind!r}; there are {', '.join(KINDS)}")
    return benchmark.splits()[f"forget_{match[1]}"]


def make_processor(family: str = "llava"):
    """The processor of an embedded model, its vocabulary learnt from all there is to say."""
    made = architectures.ARCHITECTURES[family]
    made_up, celebrities = benchmark.cast()
    texts = []
    for person in made_up + celebrities:
        pairs = [(p["Question"], p["Answer"]) for p in people.training_pairs(person)]
        texts += [made.wording.format(q, a) for q, a in pairs + train.asked_forms(person)]
        texts += [f"Is this {person.name}?"] * 10
    return made.processor(architectures.make_tokenizer(texts, made.special))


def save(model, processor, folder: Path) -> None:
    """Save model and processor; the folder appears only when it is whole."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    processor.save_pretrained(temporary)
    temporary.rename(folder)


def read_manifest(out: Path) -> dict:
    """What is known of the models in a folder: hashes, metrics, command."""
    file = out / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else {}
