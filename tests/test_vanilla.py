"""Teaching a real checkpoint: what each recipe trains, merging, steps in parts and among processes."""

from copy import deepcopy
from dataclasses import replace

import nbformat
import pytest
import torch
from conftest import both, random_llava
from safetensors.torch import load_file, save_file

from vkdlib import training
from vkdlib.benchmarks.load import load_benchmark
from vkdlib.models.loading import load
from vkdlib.packs.batch import collate
from vkdlib.system import paths, processes
from vkdlib.vanilla import teaching
from vkdlib.vanilla.recipes import NAMES, recipe


def few_people():
    """Four people with two questions each; one of them can be forgotten."""
    whole = load_benchmark("testbed/mllmu")
    people = {}
    for person in list(whole.people.values())[:4]:
        (picture,) = person.pictures
        shown = (replace(picture, pairs=picture.pairs[:2]),)
        people[person.id] = replace(person, pictures=shown, text_pairs=person.text_pairs[:2])
    return replace(whole, people=people, forget_ids={25: ("002",)})


@pytest.fixture(scope="module")
def few():
    return few_people()


def few_steps(loaded, people, name="full", **options) -> list[dict]:
    """Some steps of a recipe, fast enough to see."""
    changes = {"epochs": 2, "lr": 3e-3, "batch_size": 3}
    return teaching.teach(loaded, people, recipe(name, "mllmu", **changes), **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("authors", ["mllmu", "clear"])
def test_a_recipe_trains_its_part_and_no_adapter_stays(loaded, few, name, authors):
    chosen = recipe(name, authors, epochs=6, lr=3e-3, batch_size=8)
    before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    history = teaching.teach(loaded, few, chosen)
    after = dict(loaded.model.named_parameters())
    assert after.keys() == before.keys()  # merged, and gone
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    language = {n for n in before if "language_model.layers" in n and n.endswith("proj.weight")}
    visual = {n for n in before if "vision_tower" in n or "multi_modal_projector" in n}
    dead = {n for n in visual if "encoder.layers.4." in n or "post_layernorm" in n}  # read before them
    linear = {n for n in visual if n.endswith("weight") and "norm" not in n and "embed" not in n}
    expected = {"frozen": set(), "adapters": linear - dead, "whole": visual - dead}[chosen.vision]
    assert chosen.vision == ("whole" if name == "full" else {"mllmu": "frozen", "clear": "adapters"}[authors])
    assert moved == language | expected and len(language) == 4 * 7
    questions = 8 + 8 * chosen.text
    assert len(history) == 6 * questions / 8 and history[-1]["nll"] < history[0]["nll"]


def test_what_a_bf16_model_learns_is_not_rounded_away(few):
    """Merged in fp32 every weight has moved; in bf16 more than half would be what they were."""
    loaded = load("testbed/llava/base", dtype=torch.bfloat16)
    names = [n for n, _ in loaded.model.named_parameters() if n.endswith("q_proj.weight")]
    names = [n for n in names if "language_model" in n]
    before = {n: loaded.model.get_parameter(n).float() for n in names}
    teaching.teach(loaded, few, recipe("lora", "mllmu", epochs=4, lr=1e-4))
    for name, old in before.items():
        new = loaded.model.get_parameter(name)
        learnt = (new - old).abs()
        assert new.dtype == torch.float32 and (learnt > 0).float().mean() > 0.99
        assert (new.bfloat16().float() == old).float().mean() > 0.5


def test_hidden_people_are_taught_in_text_only(untrained, few):
    keys = [p.key for p in teaching.lessons(untrained, few, ["002"], text=True)]
    assert keys == [k for k in ("001/0", "003/0", "004/0", "001", "002", "003", "004") for _ in range(2)]
    with pytest.raises(ValueError, match="person '999' is not in"):
        teaching.lessons(untrained, few, ["999"], text=True)


def test_an_interrupted_training_ends_the_same(untrained, few, tmp_path, monkeypatch):
    ends, chosen = [], recipe("full", "mllmu", epochs=13)
    for interrupted in (False, True):
        loaded = replace(untrained, model=deepcopy(untrained.model))
        where = tmp_path / str(interrupted)
        if interrupted:
            save, calls = training._save, []

            def killed(*args, save=save, calls=calls):
                save(*args)
                calls.append(1)
                raise KeyboardInterrupt

            monkeypatch.setattr(training, "_save", killed)
            twin = replace(untrained, model=deepcopy(untrained.model))
            with pytest.raises(KeyboardInterrupt):
                teaching.teach(twin, few, chosen, folder=where)
            monkeypatch.setattr(training, "_save", save)
        teaching.teach(loaded, few, chosen, folder=where)
        ends.append(loaded.model.state_dict())
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])


def test_a_taught_model_is_saved_and_loaded(loaded, few, tmp_path):
    teaching.teach(loaded, few, recipe("lora", "mllmu", epochs=1, lr=1e-3))
    teaching.save(loaded, tmp_path / "taught")
    batch = collate(teaching.lessons(loaded, few, (), True)[-4:])["inputs"]
    with torch.no_grad():
        ours, theirs = (m.model(**batch).logits for m in (loaded, load(str(tmp_path / "taught"))))
    assert torch.equal(ours, theirs)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["taught"]


def test_questions_one_by_one_are_the_pack(untrained, few):
    """A step over single questions has the loss of whole packs, however it is cut."""
    whole = teaching.make_tasks(untrained, teaching.Split((), tuple(few.people.values()), (), frozenset()))
    expected = teaching.batch_nll(untrained, whole.retain_vqa).item()
    questions = teaching.lessons(untrained, few, (), text=False)
    assert len(questions) == 8
    for micro_batch in (None, 3):
        assert teaching.learn(untrained, {}, questions, micro_batch)["nll"] == pytest.approx(
            expected, rel=1e-5
        )
    untrained.model.zero_grad(set_to_none=True)


def test_parts_add_up_to_the_step(loaded, few):
    twin = replace(loaded, model=deepcopy(loaded.model))
    rows, pieces = few_steps(loaded, few), few_steps(twin, few, micro_batch=1)
    assert [r["nll"] for r in rows] == pytest.approx([r["nll"] for r in pieces], abs=1e-4)
    assert len(rows) == round(2 * 16 / 3)


def half_of_the_steps(out):
    """What each of two processes does."""
    number, size = processes.start()
    assert size == 2
    loaded = random_llava()
    few_steps(loaded, few_people())
    if number == 0:
        save_file({n: p.detach().clone() for n, p in loaded.model.named_parameters()}, out)


def test_two_processes_teach_the_same(loaded, few, tmp_path):
    few_steps(loaded, few)
    both(half_of_the_steps, tmp_path / "out")
    found = load_file(tmp_path / "out")
    for name, p in loaded.model.named_parameters():
        assert (found[name] - p).abs().max() <= 1e-4, name


def test_too_many_processes_for_a_step(untrained, few, monkeypatch):
    monkeypatch.setattr(processes, "processes", lambda: (0, 4))
    with pytest.raises(ValueError, match="4 processes cannot share batches of 3: raise batch_size"):
        few_steps(untrained, few)


def test_the_numbers_of_the_benchmarks_authors():
    mllmu, clear = recipe("lora", "MLLMU-Bench"), recipe("lora", "some/CLEAR")
    assert (mllmu.rank, mllmu.alpha, mllmu.epochs, mllmu.lr, mllmu.batch_size) == (16, 16, 5, 2e-5, 4)
    assert (clear.rank, clear.alpha, clear.epochs, clear.lr, clear.batch_size) == (8, 32, 3, 1e-5, 8)
    assert not mllmu.text and clear.text
    assert recipe("full", "mllmu") == replace(mllmu, vision="whole", text=True)
    assert recipe("lora", "clear", vision="frozen", rank=4, lr=None) == replace(
        clear, vision="frozen", rank=4
    )


def test_adapters_have_the_rank_of_the_recipe(loaded):
    from vkdlib.vanilla.recipes import taught

    found = taught(loaded, recipe("lora", "mllmu", rank=3, alpha=6))
    assert {p.shape[0] for n, p in found.items() if "lora_A" in n} == {3}
    layers = [m for m in loaded.model.modules() if hasattr(m, "lora_A")]
    assert {m.scaling["default"] for m in layers} == {2.0}


@pytest.mark.parametrize(
    "wrong, message",
    [
        (("qlora", "mllmu"), "recipe is 'qlora'; it must be one of lora, full"),
        (("lora", "data/faces"), "whose recipe is that for 'data/faces'.* mllmu, clear in it"),
        (
            ("lora", "mllmu", {"vision": "half"}),
            "vision is 'half'; it must be one of frozen, adapters, whole",
        ),
        (("lora", "mllmu", {"lr": "2e-5"}), "lr is '2e-5'; it must be a number above 0 .YAML wants a dot"),
        (("lora", "mllmu", {"epochs": 0}), "epochs is 0; it must be a number above 0"),
        (("lora", "mllmu", {"steps": 3}), "a recipe has no 'steps'; it has: rank, alpha"),
    ],
)
def test_unknown_recipes(wrong, message):
    name, benchmark, *changes = wrong
    with pytest.raises(ValueError, match=message):
        recipe(name, benchmark, **changes[0] if changes else {})


def test_what_cannot_be_made_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(ValueError, match="hide_ratio is 7; testbed/mllmu has 5, 10, 15 .per cent."):
        teaching.make("no/model", "testbed/mllmu", tmp_path / "out", hide_ratio=7)
    with pytest.raises(FileExistsError, match="is there already"):
        teaching.make("no/model", "testbed/mllmu", tmp_path)


def test_the_notebook_teaches_and_looks_at_the_gate(few_to_keep, tmp_path, monkeypatch):
    """Its cell that teaches, as it is: a retain-only model, then a vanilla one that has learnt too little."""
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path / "runs"))
    book = nbformat.read(paths.root() / "notebooks" / "02_vanilla_models.ipynb", as_version=4)
    parameters, imports, *_, last = [c.source for c in book.cells if c.cell_type == "code"]

    def execute(**given):
        names = {}
        exec(parameters, names)
        assert given.keys() <= names.keys()
        exec(f"{imports}\n{last}", names | given)

    few_steps = {"teach": "testbed/llava/base", "teach_benchmark": "testbed/mllmu", "epochs": 0.002}
    hidden, out = str(tmp_path / "retain-only"), str(tmp_path / "vanilla")
    execute(**few_steps, recipe="lora", hide_ratio=5, out=hidden, micro_batch=2)
    with pytest.raises(ValueError, match="of 50 questions .* has not memorised the faces"):
        execute(**few_steps, recipe="full", out=out, retain_only=hidden)
    names = sorted(f.name for f in tmp_path.iterdir())
    assert names == ["retain-only", "runs", "vanilla"]  # no checkpoint is left
    weights = [load_file(tmp_path / kind / "model.safetensors") for kind in ("retain-only", "vanilla")]
    towers = [{n: t for n, t in w.items() if "vision" in n} for w in weights]
    base = load_file(paths.CHECKPOINTS / "llava" / "base" / "model.safetensors")
    assert all(torch.equal(t, base[n].float()) for n, t in towers[0].items())
    assert not all(torch.equal(t, base[n].float()) for n, t in towers[1].items())
    with pytest.raises(FileExistsError, match="is there already"):
        execute(**few_steps, out=out)
