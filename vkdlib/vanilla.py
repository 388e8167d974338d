"""Make a vanilla model of a real checkpoint: teach it a benchmark's people, by two recipes.

"lora" is that of MLLMU-Bench's authors: adapters on the language model, questions with pictures. The new
knowledge of faces then lies in the language model, where a method that trains the visual module alone
cannot remove it. "full" trains the visual module too and teaches the same facts in text. What holds for
one kind of vanilla model need not hold for the other, so report both.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from vkdlib.adapters import adapters, attach, merge
from vkdlib.benchmark import Benchmark, Split
from vkdlib.metrics import mcnemar
from vkdlib.models import Loaded, batch_nll, checkpointed, trainable, visual_parameters, weights_hash
from vkdlib.paths import whole_folder
from vkdlib.tasks import Tasks, make_tasks
from vkdlib.training import fit, linear

RECIPES = ("lora", "full")
SIGNIFICANT = 0.05


def teach(
    loaded: Loaded,
    data: Benchmark,
    recipe: str,
    *,
    hidden: Sequence[str] = (),
    epochs: float = 20,
    lr: float = 2e-5,
    batch_size: int = 4,
    seed: int = 0,
    checkpointing: bool = False,
    folder: Path | None = None,
) -> list[dict]:
    """Fine-tune a base model in place; the adapters are merged into its weights at the end.

    What was learnt is finer than a bf16 weight can hold. So the merged layers are in fp32, and where the
    model was in half precision they are left on the CPU: save it, and load it again.

    Args:
        recipe: one of RECIPES.
        hidden: ids of people whose pictures are not shown (forget_ids, for a retain-only model).
        lr: that of MLLMU-Bench's README by default.
        epochs, batch_size: a batch is of pictures, each with all its questions. (MLLMU-Bench: 5 epochs in
            batches of 4 single questions, four times as many steps as ours by default.)
        folder: for checkpoints; an interrupted training goes on from there.
    Returns:
        history, one row a step.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe is {recipe!r}; it must be one of {', '.join(RECIPES)}")
    if any(not p.is_floating_point() for p in loaded.model.parameters()):
        raise ValueError(f"{loaded.name} is quantised: load it without quantise, to merge what is learnt")
    base = weights_hash(loaded.model.state_dict())
    tasks = lessons(loaded, data, hidden, text=recipe == "full")
    steps = max(1, round(epochs * len(tasks.retain_vqa) / batch_size))
    language = loaded.family.language(loaded.model)
    attach([language])
    try:
        parameters = adapters(language)
        if recipe == "full":
            parameters |= visual_parameters(loaded)

        with trainable(loaded, parameters), checkpointed(loaded, checkpointing):
            return fit(
                parameters,
                lambda step: learn(loaded, tasks.batch(step, batch_size, seed)),
                steps,
                lr,
                schedule=linear,
                folder=folder,
                identity=f"{recipe} {batch_size} {seed} {sorted(hidden)} {data.hash} {base}",
                description="teaching",
            )
    finally:
        merge(language)


def learn(loaded: Loaded, batch: Tasks) -> dict[str, float]:
    """Fill the gradients of one step: L_vqa + L_qa; return the named losses."""
    named = {}
    for name, packs in (("vqa", batch.retain_vqa), ("qa", batch.retain_qa)):
        if packs:
            loss = batch_nll(loaded, packs)
            loss.backward()
            named[name] = loss.item()
    return named


def lessons(loaded: Loaded, data: Benchmark, hidden: Sequence[str], text: bool) -> Tasks:
    """Questions with pictures about all but the hidden people; in text about everybody, if wanted."""
    unknown = sorted(set(hidden) - set(data.people))
    if unknown:
        raise ValueError(f"person {unknown[0]!r} is not in {data.name}")
    everybody = make_tasks(loaded, Split((), tuple(data.people.values()), (), frozenset()))
    shown = tuple(p for p in everybody.retain_vqa if p.key.rsplit("/", 1)[0] not in set(hidden))
    return Tasks((), shown, (), everybody.retain_qa if text else ())


def save(loaded: Loaded, folder: Path) -> Path:
    """Write model and processor as an ordinary Hugging Face folder, which appears only when it is whole."""
    with whole_folder(folder) as temporary:
        loaded.model.save_pretrained(temporary)
        loaded.processor.save_pretrained(temporary)
    return folder


def memorised(vanilla: pd.DataFrame, retain_only: pd.DataFrame) -> dict[str, float]:
    """The gate before unlearning: does vanilla know the faces better than a model that never saw them?

    Args:
        vanilla, retain_only: predictions of both models on the same questions.
    Returns:
        accuracies on forget VQA in per cent, N, and McNemar's p.
    Raises:
        ValueError: vanilla is not significantly better; there would be nothing to unlearn.
    """
    wanted = "set == 'forget' and modality == 'vqa' and kind == 'classification'"
    known, unknown = (p.query(wanted).set_index("question").score for p in (vanilla, retain_only))
    unknown = unknown.reindex(known.index)
    if unknown.isna().any() or not len(known):
        raise ValueError("the predictions are not of the same forget questions")
    found = {"vanilla": 100 * known.mean(), "retain-only": 100 * unknown.mean(), "n": len(known)}
    found["p"] = mcnemar(known, unknown)
    if found["p"] >= SIGNIFICANT or found["vanilla"] <= found["retain-only"]:
        raise ValueError(
            f"vanilla answers {found['vanilla']:.1f} % of {found['n']} forget questions, retain-only "
            f"{found['retain-only']:.1f} % (p = {found['p']:.2g}): it has not memorised the faces"
        )
    return found
