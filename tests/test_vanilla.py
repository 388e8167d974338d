"""Teaching a real checkpoint: what each recipe trains, merging, steps in parts and among processes."""

import json
import math
import re
from copy import deepcopy
from dataclasses import replace

import nbformat
import pytest
import torch
from conftest import both, random_llava
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vkdlib import training
from vkdlib.benchmarks.load import load_benchmark
from vkdlib.models.loading import load
from vkdlib.packs.batch import collate
from vkdlib.system import paths, processes
from vkdlib.vanilla import __main__ as vanilla_main
from vkdlib.vanilla import teaching
from vkdlib.vanilla.recipes import RECIPES, make_recipe, recipe_parameters


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


def few_steps(loaded, people, **changes) -> list[dict]:
    """Some steps of a recipe, fast enough to see."""
    how = {"epochs": 2, "lr": 3e-3, "batch_size": 3} | changes
    return teaching.teach(loaded, people, make_recipe("full", "mllmu", **how))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("authors", ["mllmu", "clear"])
def test_a_recipe_trains_its_part_and_no_adapter_stays(loaded, few, name, authors):
    chosen = make_recipe(name, authors, epochs=6, lr=3e-3, batch_size=8)
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
    teaching.teach(loaded, few, make_recipe("lora", "mllmu", epochs=4, lr=1e-4))
    for name, old in before.items():
        new = loaded.model.get_parameter(name)
        learnt = (new - old).abs()
        assert new.dtype == torch.float32 and (learnt > 0).float().mean() > 0.99
        assert (new.bfloat16().float() == old).float().mean() > 0.5


def test_hidden_people_are_taught_in_text_only(untrained, few):
    keys = [p.key for p in teaching.single_questions(untrained, few, ["002"], text=True)]
    assert keys == [k for k in ("001/0", "003/0", "004/0", "001", "002", "003", "004") for _ in range(2)]
    with pytest.raises(ValueError, match="person '999' is not in"):
        teaching.single_questions(untrained, few, ["999"], text=True)


def test_an_interrupted_training_ends_the_same(untrained, few, tmp_path, monkeypatch):
    ends, chosen = [], make_recipe("full", "mllmu", epochs=13)
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
    teaching.teach(loaded, few, make_recipe("lora", "mllmu", epochs=1, lr=1e-3))
    teaching.save_model(loaded, tmp_path / "taught")
    batch = collate(teaching.single_questions(loaded, few, (), True)[-4:])["inputs"]
    with torch.no_grad():
        ours, theirs = (m.model(**batch).logits for m in (loaded, load(str(tmp_path / "taught"))))
    assert torch.equal(ours, theirs)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["taught"]


def test_questions_one_by_one_are_the_pack(untrained, few):
    """A step over single questions has the loss of whole packs, however it is cut."""
    whole = teaching.picture_packs(untrained, few.people.values())
    expected = teaching.batch_nll(untrained, whole).item()
    questions = teaching.single_questions(untrained, few, (), text=False)
    assert len(questions) == 8
    for micro_batch in (None, 3):
        assert teaching.fill_gradients(untrained, {}, questions, micro_batch)["nll"] == pytest.approx(
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
    number, size = processes.join_group()
    assert size == 2
    loaded = random_llava()
    few_steps(loaded, few_people())
    if number == 0:
        save_file({n: p.detach().clone() for n, p in loaded.model.named_parameters()}, out)


def test_a_checkpoint_is_of_named_fields(loaded, few, tmp_path):
    """Another seed is another training; another micro_batch is not."""
    start, chosen = deepcopy(loaded.model.state_dict()), make_recipe("lora", "mllmu", epochs=1, lr=1e-3)
    teaching.teach(loaded, few, chosen, folder=tmp_path)
    with safe_open(tmp_path / "checkpoint.safetensors", "pt") as file:
        identity = json.loads(file.metadata()["identity"])
    assert identity["training"]["recipe"]["lr"] == identity["lr"] == 1e-3
    loaded.model.load_state_dict(start)
    assert len(teaching.teach(loaded, few, replace(chosen, micro_batch=1), folder=tmp_path)) == 2
    loaded.model.load_state_dict(start)
    with pytest.raises(ValueError, match="checkpoint.safetensors belongs to another training .*seed"):
        teaching.teach(loaded, few, replace(chosen, seed=1), folder=tmp_path)


def test_nothing_to_teach_is_refused(untrained, few):
    with pytest.raises(ValueError, match="nothing of .* is to be taught: hide fewer people, or teach text"):
        teaching.teach(untrained, few, make_recipe("lora", "mllmu"), list(few.people))


def test_two_processes_teach_the_same(loaded, few, tmp_path):
    few_steps(loaded, few)
    both(half_of_the_steps, tmp_path / "out")
    found = load_file(tmp_path / "out")
    for name, p in loaded.model.named_parameters():
        assert (found[name] - p).abs().max() <= 1e-4, name


def test_too_many_processes_for_a_step(untrained, few, monkeypatch):
    monkeypatch.setattr(processes, "rank_and_size", lambda: (0, 4))
    with pytest.raises(ValueError, match="4 processes cannot share batches of 3: raise batch_size"):
        few_steps(untrained, few)


def test_the_numbers_of_the_benchmarks_authors():
    mllmu, clear = make_recipe("lora", "mllmu"), make_recipe("lora", "clear")
    assert (mllmu.rank, mllmu.alpha, mllmu.epochs, mllmu.lr, mllmu.batch_size) == (16, 16, 5, 2e-5, 4)
    assert (clear.rank, clear.alpha, clear.epochs, clear.lr, clear.batch_size) == (8, 32, 3, 1e-5, 8)
    assert not mllmu.text and clear.text
    assert make_recipe("full", "mllmu") == replace(mllmu, vision="whole", text=True)
    assert make_recipe("lora", "clear", vision="frozen", rank=4, lr=None) == replace(
        clear, vision="frozen", rank=4
    )


def test_adapters_have_the_rank_of_the_recipe(loaded):
    found = recipe_parameters(loaded, make_recipe("lora", "mllmu", rank=3, alpha=6))
    assert {p.shape[0] for n, p in found.items() if "lora_A" in n} == {3}
    layers = [m for m in loaded.model.modules() if hasattr(m, "lora_A")]
    assert {m.scaling["default"] for m in layers} == {2.0}


@pytest.mark.parametrize(
    "wrong, message",
    [
        (("qlora", "mllmu"), "recipe is 'qlora'; it must be one of lora, full"),
        (("lora", "nuclear-faces"), "schema is 'nuclear-faces'; it must be one of mllmu, clear"),
        (
            ("lora", "mllmu", {"vision": "half"}),
            "vision is 'half'; it must be one of frozen, adapters, whole",
        ),
        (("lora", "mllmu", {"lr": "2e-5"}), "lr is '2e-5'; .* above 0 .YAML reads 2e-5 as text: write a dot"),
        (("lora", "mllmu", {"lr": math.nan}), "lr is nan; it must be a number above 0"),
        (("lora", "mllmu", {"alpha": math.inf}), "alpha is inf; it must be a number above 0"),
        (("lora", "mllmu", {"rank": 2.5}), "rank is 2.5; it must be a whole number 1 or more"),
        (("lora", "mllmu", {"batch_size": 0}), "batch_size is 0; it must be a whole number 1 or more"),
        (("lora", "mllmu", {"weight_decay": -1}), "weight_decay is -1; it must be a number 0 or more"),
        (("lora", "mllmu", {"text": "no"}), "text is 'no'; it must be True or False"),
        (("lora", "mllmu", {"epochs": 0}), "epochs is 0; it must be a number above 0"),
        (("lora", "mllmu", {"steps": 3}), "a recipe has no 'steps'; it has: rank, alpha"),
    ],
)
def test_unknown_recipes(wrong, message):
    name, benchmark, *changes = wrong
    with pytest.raises(ValueError, match=message):
        make_recipe(name, benchmark, **changes[0] if changes else {})


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"hide_ratio": 7}, "hide_ratio is 7; it must be one of None, 5, 10, 15"),
        ({"micro_batch": -1}, "micro_batch is -1; it must be a whole number 1 or more"),
        ({"seed": 0.5}, "seed is 0.5; it must be a whole number"),
        ({"lr": math.nan}, "lr is nan"),
        ({"learning_rate": 1e-3}, "a recipe has no 'learning_rate'; it has: rank"),
        ({"out": "{tmp_path}"}, "{tmp_path} is there already"),
        ({"out": "/dev/null/model"}, "/dev/null could not be made"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_loaded(wrong, message, tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "load", lambda *_, **__: pytest.fail("it was loaded"))
    wrong = {n: v.format(tmp_path=tmp_path) if isinstance(v, str) else v for n, v in wrong.items()}
    with pytest.raises((ValueError, OSError), match=message.format(tmp_path=tmp_path)):
        teaching.make_model("no/model", "testbed/mllmu", **{"out": tmp_path / "out"} | wrong)
    assert not list(tmp_path.iterdir())


def test_a_step_has_questions(untrained, few):
    with pytest.raises(ValueError, match="micro_batch is -1; it must be a whole number 1 or more"):
        few_steps(untrained, few, micro_batch=-1)


def test_a_recipe_follows_the_schema_not_the_name(few, monkeypatch, tmp_path):
    """A folder of MLLMU-Bench's layout that is called nuclear-faces has "clear" in its name."""
    recipes = []
    monkeypatch.setattr(teaching, "load_benchmark", lambda *_: replace(few, name="nuclear-faces"))
    monkeypatch.setattr(teaching, "load", lambda *_, **__: None)
    monkeypatch.setattr(teaching, "teach", lambda *arguments, **_: recipes.append(arguments[2]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        teaching.make_model("no/model", "nuclear-faces", tmp_path / "out", name="lora")
    assert recipes == [make_recipe("lora", "mllmu")]


@pytest.mark.parametrize(
    "text, message",
    [
        ("- base\n", "holds .*; it must hold names and values"),
        ("base: [", "is not YAML"),
        ("base: a\nbase: b\n", "'base' is there twice"),
        ("base: a\n", "lacks benchmark, out"),
        ("learning_rate: 1.0\n", "has no 'learning_rate'; it has: base, benchmark"),
        ("{base: a/b, benchmark: testbed/mllmu, out: OUT, lr: 1e-5}", "lr is '1e-5'; .* write a dot"),
        ("{base: /nope, benchmark: testbed/mllmu, out: OUT}", "model /nope: there is no such folder"),
        ("{base: a/b, benchmark: /nope, out: OUT}", "/nope"),
        ("{base: a/b, benchmark: testbed/mllmu, out: 3}", "out is 3; it must be text"),
        ("{base: a/b, benchmark: [a], out: OUT}", "benchmark is \\['a'\\]; it must be text"),
        ("{base: a/b, benchmark: a/b, out: OUT, revision: 3}", "revision is 3; it must be text"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_wrong_lesson_is_one_line(text, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processes, "join_group", lambda: (0, 1))
    file = tmp_path / "lesson.yaml"
    if text:
        file.write_text(text.replace("OUT", str(tmp_path / "out")))
    assert vanilla_main.main([str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(str(file)) and said.count("\n") == 1 and re.search(message, said)


def test_a_place_where_no_model_can_be_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processes, "join_group", lambda: (0, 1))
    file = tmp_path / "lesson.yaml"
    file.write_text("{base: a/b, benchmark: testbed/mllmu, out: /dev/null/models/out}")
    assert vanilla_main.main([str(file)]) == 2
    assert capsys.readouterr().err.startswith("/dev/null/models could not be made")


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as ended:
        vanilla_main.main(["--help"])
    assert ended.value.code == 0 and "usage: vkdlib vanilla" in capsys.readouterr().out


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
