"""Make a vanilla model of a real checkpoint: teach it a benchmark's people, by a recipe (see `recipes`).

A retain-only model is made the same way, with some people's pictures hidden; `memorisation` compares the two.

On several GPUs: `accelerate launch -m vkdlib.vanilla lesson.yaml`, with the arguments of `make_model` in it.
Each process holds the model, and questions are shared out.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from vkdlib.benchmarks.load import load_benchmark
from vkdlib.benchmarks.schema import Benchmark, Split
from vkdlib.models.adapters import merge_adapters
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.models.loading import load
from vkdlib.models.passes import activation_checkpoints, batch_nll, trainable
from vkdlib.packs.pack import Pack, batches
from vkdlib.system import checks, processes
from vkdlib.system.files import make_folder, whole_folder
from vkdlib.tasks import make_tasks, window
from vkdlib.training import fit, gather_gradients, linear
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
    seed: int = 0,
    micro_batch: int | None = None,
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
        seed, micro_batch: see `teach`.
    Returns:
        out.
    Raises:
        FileExistsError: there is such a folder.
        OSError: it cannot be made.
        ValueError: an argument that cannot be; all before the model is loaded.
    """
    out, data = Path(out), load_benchmark(benchmark, data_revision)
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or choose another name")
    make_folder(out.parent)
    checks.one_of("hide_ratio", hide_ratio, [None, *data.forget_ids])
    _check_step(seed, micro_batch)
    recipe = make_recipe(name, data.schema, **changes)
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    loaded = load(base, revision=revision, dtype=dtype, max_pixels=max_pixels)
    checkpoints = out.with_name(out.name + ".part")
    teach(
        loaded,
        data,
        recipe,
        hidden=data.forget_ids.get(hide_ratio, ()),
        seed=seed,
        micro_batch=micro_batch,
        checkpointing=gpu,
        folder=checkpoints,
    )
    if processes.rank_and_size()[0] == 0:
        save_model(loaded, out)
        shutil.rmtree(checkpoints)
    processes.broadcast(None)
    return out


def teach(
    loaded: Loaded,
    data: Benchmark,
    recipe: Recipe,
    *,
    hidden: Sequence[str] = (),
    seed: int = 0,
    micro_batch: int | None = None,
    checkpointing: bool = False,
    folder: Path | None = None,
) -> list[dict]:
    """Fine-tune a base model in place; the adapters are merged into its weights at the end.

    What was learnt is finer than a bf16 weight can hold. So the merged layers are in fp32, and where the
    model was in half precision they are left on the CPU: save it, and load it again.

    Args:
        recipe: from `recipes.make_recipe`.
        hidden: ids of people whose pictures are not shown (forget_ids, for a retain-only model).
        seed: of the order of the questions.
        micro_batch: questions on the device at a time; None: all of a step's. It changes no result but by
            rounding. The same holds for the number of processes (see `processes`).
        checkpointing: compute activations twice instead of keeping them: less memory, the same result.
        folder: for checkpoints; an interrupted training continues from there.
    Returns:
        history, one row a step.
    """
    _check_step(seed, micro_batch)
    if any(not p.is_floating_point() for p in loaded.model.parameters()):
        raise ValueError(f"{loaded.name} is quantised: load it without quantise, to merge what is learnt")
    base = weights_hash(loaded.model.state_dict())
    questions = single_questions(loaded, data, hidden, recipe.text)
    size, count = min(recipe.batch_size, len(questions)), processes.rank_and_size()[1]
    if size < count:
        raise ValueError(
            f"{count} processes cannot share batches of {size}: raise batch_size, or start fewer"
        )
    try:
        parameters = recipe_parameters(loaded, recipe)
        with trainable(loaded, parameters), activation_checkpoints(loaded, checkpointing):
            return fit(
                parameters,
                lambda step: fill_gradients(
                    loaded, parameters, window(questions, step, size, f"{seed}"), micro_batch
                ),
                max(1, round(recipe.epochs * len(questions) / size)),
                recipe.lr,
                schedule=linear,
                weight_decay=recipe.weight_decay,
                folder=folder,
                identity=f"{recipe} {seed} {sorted(hidden)} {data.hash} {base}",
                description="teaching",
            )
    finally:
        merge_adapters(loaded.model)


def _check_step(seed: int, micro_batch: int | None) -> None:
    """Raise ValueError for numbers that are no seed, or no number of questions."""
    checks.number("seed", seed, whole=True)
    if micro_batch is not None:
        checks.number("micro_batch", micro_batch, 1, whole=True)


def fill_gradients(
    loaded: Loaded, parameters: dict, questions: Sequence[Pack], micro_batch: int | None = None
) -> dict[str, float]:
    """Fill the gradients of one step, the mean over answer tokens; return the named loss.

    Args:
        questions: of all processes together.
    """
    total = torch.zeros((), device=loaded.device)
    for with_image in (True, False):
        mine = [q for q in processes.own_share(questions) if bool(q.image) == with_image]
        for part in batches(mine, micro_batch or len(questions)):
            loss = batch_nll(loaded, part, questions)
            loss.backward()
            total += loss.detach()
    gather_gradients(parameters)
    processes.add_up([total])
    return {"nll": total.item()}


def single_questions(loaded: Loaded, data: Benchmark, hidden: Sequence[str], text: bool) -> tuple[Pack, ...]:
    """Questions, each a pack of its own: about pictures of all but the hidden people; in text about
    everybody, if wanted."""
    unknown = sorted(set(hidden) - set(data.people))
    if unknown:
        raise ValueError(f"person {unknown[0]!r} is not in {data.name}")
    everybody = make_tasks(loaded, Split((), tuple(data.people.values()), (), frozenset()))
    packs = [p for p in everybody.retain_vqa if p.key.rsplit("/", 1)[0] not in set(hidden)]
    packs += everybody.retain_qa if text else ()
    return tuple(p.select([number]) for p in packs for number in range(len(p.segments)))


def save_model(loaded: Loaded, folder: Path | str) -> Path:
    """Write model and processor as an ordinary Hugging Face folder, which appears only when it is whole."""
    folder = Path(folder)
    with whole_folder(folder) as temporary:
        loaded.model.save_pretrained(temporary)
        loaded.processor.save_pretrained(temporary)
    return folder
