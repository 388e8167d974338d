"""Make a vanilla model of a real checkpoint: teach it a benchmark's people, by a recipe (see `recipes`).

A retain-only model is made the same way, with some people's pictures hidden; `memorisation` compares the two.

On several GPUs: `accelerate launch -m vkdlib.vanilla lesson.yaml`, with the arguments of `make_model` in it.
Each process holds the model, and questions are shared out.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from vkdlib import training
from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import Benchmark
from vkdlib.models.adapters import merge_adapters
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.models.loading import load
from vkdlib.models.passes import activation_checkpoints, batch_nll, trainable
from vkdlib.packs.pack import Pack, batches
from vkdlib.system import checks, files, processes
from vkdlib.tasks import picture_packs, text_packs, window
from vkdlib.vanilla.recipes import Recipe, make_recipe, recipe_parameters


def make_model(
    base: str,
    benchmark: str,
    out: str | Path,
    *,
    name: str = "full",
    hide_ratio: int | None = None,
    revision: str | None = None,
    data_revision: str | None = None,
    max_pixels: int | None = None,
    **changes,
) -> Path:
    """Teach a base model a benchmark's people and save it. An interrupted call continues where it was.

    Args:
        base, benchmark: folders or Hub ids.
        out: folder for the new model, an ordinary Hugging Face folder.
        name: of the recipe; `changes` are fields of it with other values, see `recipes.make_recipe`.
        hide_ratio: per cent of the people whose pictures are not shown, for a retain-only model.
        revision, data_revision: commits of base and benchmark on the Hub; None takes the newest.
        max_pixels: of a picture, see `loading.load`; take the same when you unlearn.
    Returns:
        out.
    Raises:
        FileExistsError: there is such a folder.
        OSError: it cannot be made.
        ValueError: an argument that cannot be; all before the model is loaded.
    """
    for field, value in {"base": base, "benchmark": benchmark, "out": out}.items():
        checks.text(field, str(value) if isinstance(value, Path) else value)
    for field, value in {"revision": revision, "data_revision": data_revision}.items():
        if value is not None:
            checks.text(field, value)
    out, data = Path(out), load_benchmark(benchmark, data_revision)
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or choose another name")
    files.make_folder(out.parent)
    checks.one_of("hide_ratio", hide_ratio, [None, *data.forget_ids])
    recipe, hidden = make_recipe(name, data.schema, **changes), data.forget_ids.get(hide_ratio, ())
    gpu = torch.cuda.is_available()
    loaded = load(base, revision, torch.bfloat16 if gpu else torch.float32, max_pixels=max_pixels)
    checkpoints = out.with_name(out.name + ".part")
    teach(loaded, data, recipe, hidden, checkpointing=gpu, folder=checkpoints)
    if processes.rank_and_size()[0] == 0:
        save_model(loaded, out)
        shutil.rmtree(checkpoints)
    processes.broadcast(None)
    return out


def teach(
    loaded: Loaded,
    data: Benchmark,
    recipe: Recipe,
    hidden: Sequence[str] = (),
    *,
    checkpointing: bool = False,
    folder: Path | None = None,
) -> list[dict]:
    """Fine-tune a base model in place; the adapters are merged into its weights at the end.

    What was learnt is finer than a bf16 weight can hold. So the merged layers are in fp32, and where the
    model was in half precision they are left on the CPU: save it, and load it again.

    Args:
        recipe: from `recipes.make_recipe`.
        hidden: ids of people whose pictures are not shown (forget_ids, for a retain-only model).
        checkpointing: compute activations twice instead of keeping them: less memory, the same result.
        folder: for checkpoints; an interrupted training continues from there.
    Returns:
        history, one row a step.
    """
    if any(not p.is_floating_point() for p in loaded.model.parameters()):
        raise ValueError(f"{loaded.name} is quantised: load it without quantise, to merge what is learnt")
    identity = {
        "recipe": asdict(replace(recipe, micro_batch=None)),  # which changes no result
        "hidden": sorted(hidden),
        "data": data.hash,
        "weights": weights_hash(loaded.model.state_dict()),
    }
    questions = single_questions(loaded, data, hidden, recipe.text)
    size = min(recipe.batch_size, len(questions))
    training.check_shares(size)

    def gradients(step: int) -> dict[str, float]:
        batch = window(questions, step, size, f"{recipe.seed}")
        return fill_gradients(loaded, parameters, batch, recipe.micro_batch)

    try:
        parameters = recipe_parameters(loaded, recipe)
        with trainable(loaded, parameters), activation_checkpoints(loaded, checkpointing):
            return training.fit(
                parameters,
                gradients,
                max(1, round(recipe.epochs * len(questions) / size)),
                recipe.lr,
                schedule=training.linear,
                weight_decay=recipe.weight_decay,
                folder=folder,
                identity=identity,
                description="teaching",
            )
    finally:
        merge_adapters(loaded.model)


def fill_gradients(
    loaded: Loaded, parameters: dict, questions: Sequence[Pack], micro_batch: int | None = None
) -> dict[str, float]:
    """Fill the gradients of one step, the mean over answer tokens; return the named loss.

    Args:
        questions: of all processes together.
    """
    total = torch.zeros((), device=loaded.device)
    for with_image in (True, False):
        share = [q for q in processes.own_share(questions) if bool(q.image) == with_image]
        for part in batches(share, micro_batch or len(questions)):
            loss = batch_nll(loaded, part, questions)
            loss.backward()
            total += loss.detach()
    training.gather_gradients(parameters)
    processes.add_up([total])
    return {"nll": total.item()}


def single_questions(loaded: Loaded, data: Benchmark, hidden: Sequence[str], text: bool) -> tuple[Pack, ...]:
    """Questions, each in its own pack: about pictures of all people who are not hidden, and with `text` in
    text about everybody."""
    unknown = sorted(set(hidden) - set(data.people))
    if unknown:
        raise ValueError(f"person {unknown[0]!r} is not in {data.name}")
    visible = [person for id, person in data.people.items() if id not in set(hidden)]
    packs = picture_packs(loaded, visible) + (text_packs(loaded, data.people.values()) if text else ())
    if not packs:
        raise ValueError(f"nothing of {data.name} is to be taught: hide fewer people, or teach text too")
    return tuple(p.select([number]) for p in packs for number in range(len(p.segments)))


def save_model(loaded: Loaded, folder: Path | str) -> Path:
    """Write model and processor as an ordinary Hugging Face folder, which appears only when it is whole."""
    folder = Path(folder)
    with files.whole_folder(folder) as temporary:
        loaded.model.save_pretrained(temporary)
        loaded.family.save_processor(loaded.processor, temporary)
    return folder
