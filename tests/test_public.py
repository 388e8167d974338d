"""The public face: few names, imported when used; a question takes one line, and a run can be taken home."""

import functools
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from transformers import AutoProcessor
from transformers.models.auto import image_processing_auto

import vkdlib
from vkdlib import notebooks
from vkdlib.__main__ import COMMANDS, main
from vkdlib.benchmarks.pictures import open_image, upright
from vkdlib.evaluation.evaluate import PREDICTIONS, evaluate, generate
from vkdlib.models.families import FAMILIES
from vkdlib.models.loaded import Loaded, weights_hash
from vkdlib.models.loading import load
from vkdlib.public import export as exporting
from vkdlib.public.ask import ask, model_of, picture_bytes
from vkdlib.reports import plots
from vkdlib.reports.columns import table_columns
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.deltas import changed_weights
from vkdlib.runs.store import open_run
from vkdlib.system import paths
from vkdlib.testbed.architectures import random_model
from vkdlib.testbed.build import make_processor
from vkdlib.vanilla.teaching import save_model

MODEL_TYPES = {"llava": "llava", "qwen2-vl": "qwen2_vl", "qwen2.5-vl": "qwen2_5_vl"}


@pytest.fixture
def image(benchmark):
    return benchmark.people["001"].image


@pytest.fixture
def split(benchmark):
    whole = benchmark.split(5)
    people = {name: getattr(whole, name)[:2] for name in ("forget", "retain", "real")}
    return replace(whole, **people, selection=frozenset())


@functools.cache
def processor_like(family):
    return make_processor("llava" if family == "llava" else "qwen2-vl")  # that of both Qwens


def small_run(family, folder, split, monkeypatch, **values):
    """A run of a random model whose vision tower was changed."""
    monkeypatch.setenv("VKDLIB_RUNS", str(folder / "runs"))
    name = folder / family
    torch.manual_seed(0)
    model = random_model(family).eval()
    with torch.no_grad():
        for p in model.parameters():  # else its answers are empty
            p += 0.2 * torch.randn_like(p)
    save_model(Loaded(model, processor_like(family), FAMILIES[MODEL_TYPES[family]], "x"), name)
    loaded = load(name)
    before = {n: p.detach().clone() for n, p in loaded.model.named_parameters()}
    weights = weights_hash(loaded.model.state_dict())
    with torch.no_grad():
        for p in loaded.family.tower(loaded.model).parameters():
            p += 0.1 * torch.randn_like(p)
    values = {"method": "GA", "schema": "mllmu", "weights": weights} | values
    configuration = Configuration(model=str(name), benchmark="testbed/mllmu", **values)
    with open_run("x", configuration) as this:
        answers = evaluate(loaded, split, kinds=["classification"])
        this.finish(answers, [{"step": 0, "loss": 1.0}], {}, changed_weights(loaded, before))
    return this


def test_every_public_name_can_be_used_and_completed():
    assert set(vkdlib.__all__) <= set(dir(vkdlib))
    for name in vkdlib.PUBLIC:
        assert callable(getattr(vkdlib, name)) and getattr(vkdlib, name).__name__ == name
        assert getattr(vkdlib, name).__doc__
    with pytest.raises(AttributeError, match="no 'lod'; it has ask, compare"):
        vkdlib.lod  # noqa: B018


def test_names_stay_functions_whatever_is_imported():
    """A module of the same name would take a function's place."""
    program = "import vkdlib.unlearning, vkdlib.evaluation.evaluate, vkdlib.public.export, vkdlib as v\n"
    program += "assert all(callable(getattr(v, name)) for name in v.PUBLIC)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_picture_may_be_a_path_bytes_or_an_image(untrained, image, tmp_path):
    (tmp_path / "face.png").write_bytes(image)
    question = "What is the name of this person?"
    answer = generate(untrained, [question], [image])[0]
    for picture in (tmp_path / "face.png", str(tmp_path / "face.png"), image, open_image(image)):
        assert ask(untrained, picture, question) == answer
    assert ask(untrained, [image, image], question) == [answer] * 2
    assert ask(untrained, image, [question]) == [answer]
    assert ask(untrained, None, question) == generate(untrained, [question])[0]


def turned(tmp_path):
    """A JPEG that its EXIF orientation turns, as a telephone writes it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.linear_gradient("L").resize((60, 40)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    return tmp_path / "turned.jpg"


def sixteen_bits(tmp_path):
    """A PNG of 16 bits of grey."""
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype("uint16")
    Image.fromarray(values).save(tmp_path / "grey.png")
    return tmp_path / "grey.png"


@pytest.mark.parametrize("odd", [turned, sixteen_bits])
def test_an_odd_picture_is_the_same_by_path_and_as_an_image(odd, tmp_path):
    file = odd(tmp_path)
    by_path, as_image = (open_image(picture_bytes(given)) for given in (file, Image.open(file)))
    assert by_path.size == as_image.size and by_path.tobytes() == as_image.tobytes()
    assert upright(by_path).tobytes() == by_path.tobytes() and (by_path.size == (40, 60)) == (odd is turned)


def test_a_list_of_questions_goes_with_a_list_of_pictures(untrained, image):
    pictures, questions = [image, None], ["Who is this?", "Who is Ann?"]
    assert ask(untrained, pictures, questions) == [ask(untrained, *pair) for pair in zip(pictures, questions)]


def test_options_are_as_likely_as_in_an_evaluation(untrained, split):
    answers = evaluate(untrained, split, kinds=["classification"]).query("set == 'forget'")
    person = split.forget[0]
    for q in [q for q in person.questions if q.kind == "classification"][:4]:
        picture = person.pictures[q.picture].image if q.modality == "vqa" else None
        logprobs = json.loads(answers.set_index("question").options[q.id])
        likely = ask(untrained, picture, q.question, list(q.options.values()))
        assert list(likely) == list(q.options.values())
        assert [*likely.values()] == pytest.approx(softmax([*logprobs.values()]), abs=1e-5)


def test_options_go_with_a_list_of_pictures(untrained, image):
    options = ("Ann", "Bob Ray")
    first, second = ask(untrained, [image, None], "Who is this?", options)
    assert first == pytest.approx(ask(untrained, image, "Who is this?", options))
    assert second == pytest.approx(ask(untrained, None, "Who is this?", options)) and first != second


@pytest.mark.parametrize(
    "options, message",
    [
        (["Ann"], "options is \\['Ann'\\]; it must be a list of two or more answers"),
        ("Ann", "options is 'Ann'; it must be a list"),
        (["Ann", "Ann"], "two of them are alike"),
        (["Ann", " "], "an option is ' '; it must be text"),
        (["Ann", "<image>"], "<image>"),
    ],
)
def test_options_that_cannot_be_chosen_from(untrained, options, message):
    with pytest.raises(ValueError, match=message):
        ask(untrained, None, "Who?", options)


def test_probabilities_are_never_nan(loaded, image):
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="question 'Who\\?': the log-probabilities are .*NaN"):
        ask(loaded, image, "Who?", ["Ann", "Bob"])


@pytest.mark.parametrize(
    "picture, question, message",
    [
        ("no.png", "Who?", "picture no.png: there is no such file in /"),
        (b"GIF", "Who?", "picture cannot be decoded .* PNG or JPEG"),
        (3, "Who?", "picture is of type int; it must be a path, bytes"),
        (None, " ", "question is ' '; it must be text"),
        ([None, None], ["a", "b", "c"], "lists of 2 and 3; they must be equally long"),
        ([], "Who?", "lists of 0; .* 1 or more"),
    ],
)
def test_what_cannot_be_asked(untrained, picture, question, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ask(untrained, picture, question)


def test_who_is_asked_must_be_a_model():
    with pytest.raises(ValueError, match="model is 3; it must be a loaded model, a run, or a model's name"):
        model_of(3)


STOCK = """
import json, sys
sys.modules["vkdlib"] = sys.modules["torchvision"] = None  # neither can be imported
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, questions = sys.argv[1], json.loads(sys.argv[3])
for family in json.loads(sys.argv[2]):
    model = AutoModelForImageTextToText.from_pretrained(f"{folder}/{family} home")
    processor = AutoProcessor.from_pretrained(f"{folder}/{family} home", backend="pil")
    plain = AutoProcessor.from_pretrained(f"{folder}/{family} home")
    assert type(plain) is type(processor) and type(plain).__module__.startswith("transformers.")
    answers = []
    for number, question in enumerate(questions):
        content = [{"type": "image"}, {"type": "text", "text": question}]
        turns = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(turns, add_generation_prompt=True)
        image = Image.open(f"{folder}/{number}.png").convert("RGB")
        inputs = processor(images=[image], text=[text], return_tensors="pt")
        others = plain(images=[image], text=[text], return_tensors="pt")
        assert others.keys() == inputs.keys() and all(torch.equal(others[n], inputs[n]) for n in inputs)
        ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1]:]
        answers.append(processor.batch_decode(ids, skip_special_tokens=True)[0].strip())
    print(json.dumps(answers))
"""


def test_exported_runs_answer_alike_without_vkdlib(benchmark, split, tmp_path, monkeypatch):
    """Twenty questions to each family, in a process that can import neither vkdlib nor torchvision. There a
    plain AutoProcessor makes the same of a picture and a question as one with backend="pil".

    It does not show a clean environment: transformers and all else are those of this one. Nor what a plain
    AutoProcessor makes of a picture where torchvision is: other classes, which nobody here can try. The card
    says backend="pil" for that. Nor the embedded models: weights are random.
    """
    people = list(benchmark.people.values())[:4]
    pairs = [(p.image, q.question) for p in people for q in p.questions if q.modality == "vqa"][:20]
    for number, (picture, _) in enumerate(pairs):
        (tmp_path / f"{number}.png").write_bytes(picture)
    ours, few = [], replace(split, forget=split.forget[:1], retain=(), real=())
    for family in MODEL_TYPES:
        run = small_run(family, tmp_path, few, monkeypatch)
        folder = vkdlib.export(run, tmp_path / f"{family} home")
        ours.append([vkdlib.ask(run, *pair, max_new_tokens=8) for pair in pairs])
        unlearned = model_of(run).model.state_dict()
        assert weights_hash(load(folder).model.state_dict()) == weights_hash(unlearned)
        assert len(ours[-1]) == 20 and len(set(ours[-1])) > 1
    arguments = [str(tmp_path), json.dumps([*MODEL_TYPES]), json.dumps([q for _, q in pairs])]
    command = [sys.executable, "-c", STOCK, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == ours


@pytest.mark.parametrize("family", MODEL_TYPES)
def test_a_saved_processor_takes_pils_class_where_torchvision_is(family, image, tmp_path, monkeypatch):
    """transformers would take its other classes there; nothing but the choice of a class asks for it.
    torchvision is made believe, and cannot be imported: this shows the choice that backend="pil" makes, and
    not what happens beside a real one."""
    processor = processor_like(family)
    FAMILIES[MODEL_TYPES[family]].save_processor(processor, tmp_path)
    monkeypatch.setattr(image_processing_auto, "is_torchvision_available", lambda: True)
    stock = AutoProcessor.from_pretrained(tmp_path, backend="pil")
    assert type(stock.image_processor).__name__.endswith("Pil")
    question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who?"}]}]
    inputs = []
    for one in (processor, stock):
        text = one.apply_chat_template(question, add_generation_prompt=True)
        inputs.append(one(images=[open_image(image)], text=[text], return_tensors="pt"))
    assert (inputs[0]["input_ids"] == inputs[1]["input_ids"]).all()
    assert (inputs[0]["pixel_values"] == inputs[1]["pixel_values"]).all()


@pytest.fixture
def llava_run(tmp_path, split, monkeypatch):
    return small_run("llava", tmp_path, split, monkeypatch)


def test_the_card_says_what_was_done_and_measured(llava_run, tmp_path):
    card = (vkdlib.export(llava_run, tmp_path / "home") / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    for words in ("by GA", "2 people", "## Limits", llava_run.hash, "people to forget, known pictures", "N"):
        assert words in card
    table = llava_run.records().query("set == 'test' and metric == 'accuracy'").iloc[0]
    assert f"{table.value:.3g} [{table.low:.3g}, {table.high:.3g}] | {table.n} | {table.people} |" in card


def test_the_code_of_the_card_runs_as_it_stands(llava_run, image, tmp_path):
    folder = vkdlib.export(llava_run, tmp_path / "home")
    (folder / "picture.png").write_bytes(image)
    code = re.search("```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout.strip() and done.stdout.strip() == vkdlib.ask(llava_run, image, "Who is this?")


def test_what_is_there_is_never_overwritten(llava_run, tmp_path):
    (tmp_path / "home").mkdir()
    with pytest.raises(FileExistsError, match="home is there already: remove it"):
        vkdlib.export(llava_run, tmp_path / "home")
    assert not list((tmp_path / "home").iterdir())


def test_what_cannot_be_exported(llava_run, tmp_path):
    with pytest.raises(ValueError, match="run is 'abc'; it must be a run"):
        vkdlib.export("abc", tmp_path / "home")
    quantised = replace(llava_run, configuration=replace(llava_run.configuration, quantise="nf4"))
    llava_run.folder.rename(quantised.folder)
    with pytest.raises(ValueError, match="quantise='nf4': .* Make the run again without quantise"):
        vkdlib.export(quantised, tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("values", [{"way": "strict"}, {"attack": "int8", "attack_scope": "all"}])
def test_the_record_of_an_export_is_that_of_its_model(llava_run, tmp_path, values):
    other = replace(llava_run, configuration=replace(llava_run.configuration, **values))
    llava_run.folder.rename(other.folder)
    with pytest.raises(ValueError, match=f"own for {', '.join(values)}: .* Export the same run without them"):
        vkdlib.export(other, tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_offline_nothing_is_uploaded(llava_run):
    with pytest.raises(ConnectionError, match=r"nothing was uploaded.*vkdlib.export\(run, folder\)"):
        vkdlib.push_to_hub(llava_run, "me/forgetful")
    with pytest.raises(ValueError, match="repository is 'forgetful'; it must be owner/name"):
        vkdlib.push_to_hub(llava_run, "forgetful")


def test_online_the_folder_is_uploaded_whole(llava_run, monkeypatch):
    calls = []

    class Hub:
        def whoami(self):
            return {"name": "me"}

        def create_repo(self, name, private, exist_ok):
            calls.append((name, private))

        def upload_folder(self, repo_id, folder_path):
            calls.append({file.name for file in folder_path.iterdir()})
            return "address"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert vkdlib.push_to_hub(llava_run, "me/forgetful") == "address"
    assert calls[0] == ("me/forgetful", True)
    assert {"README.md", "config.json", "model.safetensors", "processor_config.json"} <= calls[1]


def test_a_bfloat16_model_is_exported_as_such(tmp_path, split, monkeypatch):
    run = small_run("llava", tmp_path, split, monkeypatch)
    loaded = load(run.configuration.model, dtype="bfloat16")
    model = exporting.stock_model(loaded)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_two_runs_are_compared_in_the_columns_of_a_table(llava_run, tmp_path, split, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    other = open_run("x", replace(llava_run.configuration, seed=1))
    with other as run:
        scores = llava_run.predictions.assign(score=1.0)
        run.finish(scores[PREDICTIONS], [{"step": 0, "loss": 1.0}])
    table = vkdlib.compare(llava_run, run)
    assert set(table.other) == {"GA"} and (table.difference <= 0).all() and (table.difference < 0).any()
    assert vkdlib.compare(run, llava_run).difference.tolist() == (-table.difference).tolist()
    assert (vkdlib.compare(run, run).difference == 0).all()
    columns = table_columns("vkd 1", "mllmu")
    ax = plots.forest(plt.subplots()[1], table, "GA", columns)
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"GA, {c.title}" for c in columns]
    with pytest.raises(ValueError, match="run_b is 3; it must be a run"):
        vkdlib.compare(llava_run, 3)
    for name, value in {"data": "0" * 64, "way": "blank", "draw": 1}.items():
        with pytest.raises(
            ValueError, match=f"not asked the same questions in one way: {name} is .*{value!r}"
        ):
            vkdlib.compare(llava_run, replace(run, configuration=replace(run.configuration, **{name: value})))


def test_unlearn_fills_in_a_fitting_preset(monkeypatch, untrained):
    monkeypatch.setattr(
        "vkdlib.public.unlearn.run", lambda experiment, c, machine, gate: (experiment, c, gate)
    )
    experiment, c, gate = vkdlib.unlearn("testbed/llava", "testbed/mllmu", beta=1, forget_ratio=10)
    assert (experiment, c.method, c.settings["beta"], c.forget_ratio, gate) == ("single", "VKD", 1, 10, True)
    assert c.training["epochs"] > 0
    with pytest.raises(ValueError, match="has no 'bta'.*did you mean 'beta'"):
        vkdlib.unlearn("testbed/llava", "testbed/mllmu", bta=1)
    with pytest.raises(ValueError, match="model is <.*>; it must be a name or a folder"):
        vkdlib.unlearn(untrained, "testbed/mllmu")
    with pytest.raises(ValueError, match="benchmark is 3; it must be a name or a folder"):
        vkdlib.unlearn("testbed/llava", 3)


def test_help_lists_every_command_there_is(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS) and "vkdlib.ask" not in text
    assert main(["swep"]) == 2
    assert "did you mean 'sweep'" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    usage, _, rest = capsys.readouterr().out.partition("\n\n")
    assert usage.startswith(f"usage: vkdlib {command} [-h]") and "positional arguments:" in rest


def test_notebooks_are_copied_and_never_overwrite(tmp_path, capsys):
    assert notebooks.main([str(tmp_path / "mine")]) == 0
    copies = {file.name for file in (tmp_path / "mine").rglob("*") if file.is_file()}
    assert {"00_quickstart.ipynb", "table1_main.yaml"} <= copies
    assert (tmp_path / "mine" / "sweeps" / "table1_main.yaml").exists()
    assert f"go to runs/ and figures/ in {paths.root()}" in capsys.readouterr().out
    assert notebooks.main([str(tmp_path / "mine")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_whatever_has_a_command_line_is_listed():
    modules = {file.parent.name for file in paths.PACKAGE.glob("*/__main__.py")}
    modules |= {file.stem for file in paths.PACKAGE.glob("[!_]*.py") if "__main__" in file.read_text()}
    assert modules == set(COMMANDS)


def test_make_lists_its_targets():
    made = subprocess.run(["make", "help"], cwd=paths.root(), capture_output=True, text=True)
    targets = {line.partition(": ")[0] for line in made.stdout.splitlines()}
    assert made.returncode == 0 and {"quickstart", "test", "lab", "help"} <= targets


def test_what_a_wheel_carries():
    """Notebooks, sweeps and the tables that notebooks show are data of the package; whoever checks types is
    told that there are some."""
    project = pytest.importorskip("tomllib").loads((paths.root() / "pyproject.toml").read_text())
    data = project["tool"]["setuptools"]["data-files"]
    carried = {file for globs in data.values() for one in globs for file in paths.root().glob(one)}
    tables = set((paths.root() / "figures" / "data").glob("*.csv"))
    assert carried == {file for file, _ in notebooks.notebook_files()} | tables
    assert {folder.removeprefix(notebooks.INSTALLED.rstrip("/")) for folder in data} == {
        "",
        "/sweeps",
        "/figures/data",
    }
    assert "playwright" not in (paths.root() / "requirements.txt").read_text()  # an extra of its own
    assert any("playwright" in one for one in project["project"]["optional-dependencies"]["browser"])
    assert (paths.PACKAGE / "py.typed").exists()
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["vkdlib"]
    assert project["project"]["scripts"]["vkdlib"] == "vkdlib.__main__:script"


def test_transparent_pictures_are_asked_on_white(untrained):
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert ask(untrained, clear, "Who?") == ask(untrained, Image.new("RGB", (64, 64), "white"), "Who?")
