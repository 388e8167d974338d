"""The explorer: where tokens look, what is hidden, and what its page and widgets show."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_runs import made_up_answers, made_up_record
from PIL import Image

from vkdlib.benchmarks.pictures import GREY, open_image, to_png
from vkdlib.evaluation.evaluate import evaluate
from vkdlib.evaluation.metrics import option_probability
from vkdlib.explorer import beta_alpha, figures, neurons, twin
from vkdlib.explorer.attention import answer_attention, attention
from vkdlib.explorer.compared import run_names, task_runs
from vkdlib.explorer.lens import logit_lens
from vkdlib.explorer.patches import View, hide, see
from vkdlib.explorer.replies import Inquiry, Reply, hidden_replies, inquiries, probabilities, replies
from vkdlib.models.families import family_of
from vkdlib.models.loaded import Loaded
from vkdlib.models.passes import make_batch
from vkdlib.packs.pack import make_pack
from vkdlib.pruning import importance, importance_ratio
from vkdlib.reports import plots
from vkdlib.reports.answers import AnsweredTable, read_topic, row_names, table_numbers
from vkdlib.reports.columns import record_columns
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.run_folder import Run
from vkdlib.runs.store import open_run
from vkdlib.system import paths
from vkdlib.system.paths import RunError
from vkdlib.tasks import picture_packs
from vkdlib.testbed.architectures import random_model
from vkdlib.testbed.build import make_processor

SIZES = [(64, 64), (96, 48), (32, 112), (150, 120)]
WORDS, ANSWER = "What is the name of this person?", "Anna Bell"
TASK = Configuration(model="testbed/llava", benchmark="testbed/mllmu", method="vanilla")
GROUPS = ("forget", "retain", "real")


def coloured(size: tuple[int, int]) -> bytes:
    """A picture in which every pixel has a colour of its own, none of them grey."""
    pixels = np.random.default_rng(size[0]).integers(0, 100, (size[1], size[0], 3), dtype=np.uint8)
    return to_png(Image.fromarray(pixels))


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(open_image(image)).astype(int)


@pytest.fixture(scope="module", params=["llava", "qwen2-vl", "qwen2.5-vl"])
def model(request):
    """Random weights, large enough that answers differ."""
    torch.manual_seed(0)
    made = random_model(request.param).eval()
    with torch.no_grad():
        for p in made.parameters():
            p += 0.1 * torch.randn_like(p)
    return Loaded(made, make_processor(request.param), family_of(made.config), request.param)


@pytest.fixture(scope="module", params=SIZES, ids=str)
def view(request, model):
    return see(model, coloured(request.param))


def test_a_picture_is_seen_as_the_model_has_it(model, view):
    pack = make_pack(model.processor, [(WORDS, ANSWER)], view.image)
    assert view.rows * view.columns == pack.image_tokens
    again = see(model, view.image)
    assert np.array_equal(pixels(again.image), pixels(view.image)) and (again.rows, again.columns) == (
        view.rows,
        view.columns,
    )
    if len(pack.positions) == 3:  # M-RoPE says where tokens are
        start = len(pack.prefix) - pack.image_tokens
        places = [(r - start, c - start) for r, c in zip(*(axis[start:] for axis in pack.positions[1:]))]
        assert places == [divmod(n, view.columns) for n in range(pack.image_tokens)]


def test_a_hidden_square_is_what_its_token_is_made_of(model, view):
    """And nothing else: in the picture, and in what the tower gets."""
    assert view.size == 1
    before = make_pack(model.processor, [(WORDS, ANSWER)], view.image).image["pixel_values"]
    boxes = view.boxes(1)
    for square in (0, 1, view.columns, view.rows * view.columns - 1):
        changed = (pixels(hide(view, [square])) != pixels(view.image)).any(-1)
        left, upper, right, lower = boxes[square]
        assert changed[upper:lower, left:right].all() and changed.sum() == (right - left) * (lower - upper)
        after = make_pack(model.processor, [(WORDS, ANSWER)], hide(view, [square])).image["pixel_values"]
        differ = before != after
        if model.family.model_type == "llava":
            assert np.array_equal(differ[0].any(0).numpy(), changed)
        else:  # rows are patches, those of a token follow each other
            size = model.family.patches_per_token(model.model.config)
            patches = differ.any(1).nonzero()[:, 0].tolist()
            assert patches == list(range(square * size, (square + 1) * size))


def test_squares_of_a_large_picture_hold_several_tokens():
    view = View(coloured((17 * 4, 10 * 4)), 10, 17)
    assert (view.size, view.squares) == (3, (4, 6))
    covered = np.zeros((40, 68), int)
    for left, upper, right, lower in view.boxes(3):
        covered[upper:lower, left:right] += 1
    assert (covered == 1).all()
    assert (pixels(hide(view, range(24))) == GREY[0]).all()
    assert view.around(0, 1) == [0, 1, 6, 7] and len(view.around(8, 1)) == 9
    with pytest.raises(ValueError, match="square is 24; the picture has squares 0 to 23"):
        hide(view, [24])


def test_attention_is_the_models_own(model, view):
    """A token's attention to image and text is 1; the model is afterwards what it was."""
    pack = make_pack(model.processor, [(WORDS, ANSWER)], view.image)
    inputs = make_batch(model, [pack])["inputs"]
    with torch.no_grad():
        usual = model.model(**inputs).logits
        rows = answer_attention(model, view.image, WORDS, ANSWER)  # (layers, answer tokens, image tokens)
        assert torch.equal(model.model(**inputs).logits, usual)
        language = model.family.language(model.model)
        language.set_attn_implementation("eager")
        stock = model.model(**inputs, output_attentions=True).attentions
        language.set_attn_implementation("sdpa")
    first, last = len(pack.prefix) - pack.image_tokens, len(pack.prefix)
    at = inputs["logits_to_keep"][:-1]
    expected = torch.stack([layer[0, :, at, first:last].mean(0) for layer in stock])
    assert torch.allclose(rows, expected, atol=1e-5) and (rows.sum(-1) < 1).all()
    look = attention(model, view.image, WORDS, ANSWER)
    assert (look.without_sinks <= look.raw).all() and (look.without_sinks >= 0).all()


def test_the_last_layer_says_what_the_model_says(model, view):
    lens = logit_lens(model, view.image, ANSWER)
    pack = make_pack(model.processor, [(WORDS, ANSWER)], view.image)
    inputs = make_batch(model, [pack])["inputs"]
    del inputs["logits_to_keep"]
    with torch.no_grad():
        shares = model.model(**inputs).logits[0].softmax(-1)
    shares = shares[len(pack.prefix) - pack.image_tokens : len(pack.prefix)]  # (image tokens, V)
    assert torch.allclose(lens.probability[-1], shares.max(-1).values, atol=1e-5)
    first = pack.segments[0].ids[pack.segments[0].answer]
    assert torch.allclose(lens.right[-1], shares[:, first], atol=1e-5)
    assert lens.probability.shape == (4, view.rows * view.columns) == (len(lens.words), len(lens.words[0]))


def test_options_have_the_probabilities_of_the_tables(untrained, benchmark):
    split = benchmark.split(5)
    person = split.forget[0]
    few = replace(split, forget=(person,), retain=(), real=(), selection=frozenset())
    table = evaluate(untrained, few, kinds=["classification"], modalities=["vqa"], sets=["forget"])
    choices = [inquiry for inquiry in inquiries(person) if inquiry.options]
    assert len(choices) == len(table) > 1
    for inquiry, row in zip(choices, table.itertuples()):
        (shares,) = probabilities(untrained, [person.image], inquiry, inquiry.options)
        assert sum(shares.values()) == pytest.approx(1)
        assert shares[inquiry.right] == pytest.approx(option_probability(row.options, row.gold), abs=1e-4)


def test_models_are_asked_about_the_same_answers(model, benchmark):
    person = benchmark.split(5).forget[0]
    view = see(model, person.image)
    other = Loaded(random_model(model.name).eval(), model.processor, model.family, "other")
    models = {"a": model, "b": other}
    for inquiry in (inquiries(person)[0], inquiries(person)[1], Inquiry("Who?")):
        told = replies(models, view.image, inquiry)
        assert list(told["a"].probabilities) == list(told["b"].probabilities)
        answers = list(told["a"].probabilities)
        hidden = hidden_replies(model, view, inquiry, answers, reach=1)
        assert len(hidden) == 16
        (alone,) = probabilities(model, [hide(view, view.around(5, 1))], inquiry, answers)
        assert hidden[5].probabilities == pytest.approx(alone, abs=1e-5)
    text = replies(models, None, Inquiry("Who is Ann?", right="Ann"))
    assert "Ann" in text["a"].probabilities


def test_neurons_are_those_of_equation_7(untrained, benchmark):
    whole = benchmark.split(5)
    split = SimpleNamespace(forget=whole.forget[:3], retain=whole.retain[:4])
    found = neurons.forget_neurons(untrained, split, count=5)
    packs = [picture_packs(untrained, people) for people in (split.forget, split.retain)]
    means = [importance(untrained, group) for group in packs]
    ratio = importance_ratio(*means)
    best = sorted((value.item() for r in ratio.values() for value in r), reverse=True)[:5]
    assert [n.ratio for n in found] == pytest.approx(best)
    for neuron in found:
        assert ratio[neuron.block][neuron.number].item() == pytest.approx(neuron.ratio)
        z = {id: value for id, _, value in neuron.faces}
        assert [value for *_, value in neuron.faces] == sorted(z.values(), reverse=True) and len(z) == 7
        weights = [len(pack.segments) for pack in packs[0]]
        mean = np.average([z[p.id] for p in split.forget], weights=weights)
        assert mean == pytest.approx(means[0][neuron.block][neuron.number].item(), rel=1e-4)


@pytest.fixture
def record(home):
    """A made-up record of Figure 2, and its table."""
    runs = [({"method": "vanilla", "beta": np.nan}, 1.0), ({"method": "never-saw", "beta": np.nan}, 0.25)]
    runs += [
        ({"method": "VKD", "beta": b, "run": f"b{b}"}, r) for b, r in ((0.0, 0.0), (1.0, 0.5), (3.0, 0.75))
    ]
    made, answers = made_up_record([(labels, made_up_answers(lambda *_, r=r: r)) for labels, r in runs])
    topic = read_topic("fig2_beta")
    made = made.assign(row=row_names(made, topic.rows))
    columns = {c.title: c for c in record_columns(made, topic.table)}
    task = {"model": "m", "benchmark": "own/mllmu", "forget_ratio": 5}
    numbers = table_numbers([AnsweredTable(task, topic, made, columns, answers)])
    folder = home / "figures" / "data"
    folder.mkdir(parents=True)
    made.drop(columns="row").to_csv(folder / "fig2_beta.csv", index=False)
    numbers.to_csv(folder / "fig2_beta_table.csv", index=False)
    return folder


def test_a_curve_has_what_was_measured_at_each_value(record):
    curve = beta_alpha.read_curve("β", "m", "own/mllmu")
    assert curve.values == [0.0, 1.0, 3.0]
    assert curve.points(1.0).value["Retain VQA"] == 50 and curve.points(3.0).value["Forget VQA"] == 75
    with pytest.raises(ValueError, match="fig2_beta.csv has no other on own/mllmu: add them to its sweep"):
        beta_alpha.read_curve("β", "other", "own/mllmu")


def test_a_missing_curve_says_what_makes_it(record):
    c = Configuration(model="m", benchmark="own/mllmu")
    told = twin.curve_data("α", c)["missing"]
    assert "fig3_alpha" in told and told.count("make fig3_alpha") == 1 and str(record) not in told
    pd.read_csv(record / "fig2_beta.csv").drop(columns="draw").to_csv(record / "fig2_beta.csv", index=False)
    assert "first edition" in twin.curve_data("β", c)["missing"]


@pytest.fixture
def run(tmp_path, monkeypatch, untrained):
    """A run whose models are random."""
    torch.manual_seed(1)
    other = Loaded(random_model("llava").eval(), untrained.processor, untrained.family, "VKD")
    monkeypatch.setattr(twin, "compared_models", lambda *_: {"vanilla": untrained, "VKD": other})
    monkeypatch.setenv("VKDLIB_RUNS", str(tmp_path))
    answers = made_up_answers(lambda *_: 1.0)
    with open_run("x", Configuration(model="testbed/llava", benchmark="testbed/mllmu")) as this:
        this.finish(answers, [{"step": 0, "loss": 1.0}])
    return this


def test_a_page_holds_all_it_shows(run, tmp_path, monkeypatch):
    split = twin.task_split(run.configuration)
    monkeypatch.setattr(twin, "ASKED", 2)
    monkeypatch.setattr(twin, "neuron_data", lambda *_: [])
    file = twin.page(run, [split.forget[0].id, split.real[0].id])
    text = file.read_text(encoding="utf-8")
    addresses = re.findall(r"(?:src|href)=[\"']?([^\"'> ]+)|url\((?!\$)([^)]+)\)|https?://[^\"' ]+", text)
    assert not addresses and str(tmp_path) not in text  # nothing from elsewhere
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert [p["group"] for p in data["people"]] == ["forget", "real"]
    for person in data["people"]:
        for inquiry in person["inquiries"]:
            for name in data["models"]:
                assert len(inquiry["replies"][name]["p"]) == len(inquiry["answers"])
                assert [len(rows) for rows in inquiry["hidden"][name]] == [16, 16]
                assert np.shape(inquiry["attention"][name]["raw"]) == (4, 16)
        assert np.shape(person["lens"]["vanilla"]["probability"]) == (4, 16)
    with pytest.raises(ValueError, match="the task has no 'nobody'"):
        twin.page(run, ["nobody"])


def test_a_page_of_a_few_of_each_group(benchmark):
    split = benchmark.split(5)
    assert [group for _, group in twin.choose_people(split, 2)] == [g for g in GROUPS for _ in range(2)]
    assert twin.choose_people(split, [split.real[0].id]) == [(split.real[0], "real")]
    with pytest.raises(ValueError, match="people is 0; it must be a whole number 1 or more"):
        twin.choose_people(split, 0)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"method": "vanilla"}, "is of vanilla as it is: give one that unlearned"),
        ({"way": "strict"}, "asked it in a way of its own: give the usual one"),
        ({"attack": "int8", "attack_scope": "all"}, "attacked its model"),
    ],
)
def test_a_page_is_of_a_run_that_unlearned(run, values, message):
    other = replace(run, configuration=replace(run.configuration, **values))
    run.folder.rename(other.folder)
    with pytest.raises(ValueError, match=f"run {other.hash} .*{message}"):
        twin.page(other)
    with pytest.raises(ValueError, match="run is 'abc'; it must be a run"):
        twin.page("abc")


def test_nothing_in_the_data_ends_the_page():
    data = {"title": "<b>&", "name": "</script><script>alert(1)</script>"}
    text = twin.page_text(data)
    assert text.count("</script>") == 2 and "&lt;b&gt;&amp;" in text
    content = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(content) == data


def test_layers_of_a_deep_model_are_thinned():
    assert twin.some_layers(4) == [1, 2, 3, 4] and twin.some_layers(32) == [4, 8, 12, 16, 20, 24, 28, 32]
    assert twin.rounded(torch.arange(9.0)[:, None]) == [[0], [1], [2], [3], [5], [6], [7], [8]]


def test_runs_of_a_task_and_no_others(run, tmp_path):
    others = [{"draw": 1}, {"method": "vanilla"}, {"way": "noise"}, {"select": True}]
    for values in others:
        with open_run(
            "x", Configuration(**{"model": TASK.model, "benchmark": TASK.benchmark} | values)
        ) as other:
            other.finish(made_up_answers(lambda *_: 1.0))
    broken = tmp_path / "x" / "abc"
    broken.mkdir()
    (broken / "DONE").write_text("{}")
    assert [r.hash for r in task_runs(TASK)] == [run.hash]
    names = run_names(
        [run, Run("x", Configuration(seed=1), tmp_path), Run("x", Configuration(method="GA"), tmp_path)]
    )
    assert (
        sorted(n.split()[0] for n in names.values()) == ["GA", "VKD", "VKD"] and len(set(names.values())) == 3
    )


@pytest.fixture
def explorer(run, untrained, monkeypatch):
    """The widgets with a run, in what ipywidgets takes for a kernel: there its Output keeps errors."""
    from ipywidgets.widgets import widget_output

    from vkdlib.explorer.live import widgets

    other = twin.compared_models()["VKD"]

    def models(task, runs):
        return {"vanilla": untrained} | ({"VKD": other} if runs else {})

    shell = SimpleNamespace(showtraceback=lambda *_, **__: None)
    monkeypatch.setattr(widget_output, "get_ipython", lambda: shell)
    monkeypatch.setattr(widgets, "compared_models", models)
    return widgets.Explorer(TASK, 2)


def is_empty(explorer) -> bool:
    """Whether nothing of any answer is left."""
    return not (explorer.answers.value or explorer.squares.children or explorer.tabs[0].figure.value)


def test_widgets_show_what_is_chosen(explorer):
    assert list(explorer.faces.buttons) == [p.id for people in explorer.groups.values() for p in people]
    first, figure = explorer.answers.value, explorer.tabs[0].figure.value
    assert "VKD" in first and explorer.scene.person.name in first
    assert "data:image/png" in figure and 'alt="' in figure and not explorer.state.value.endswith("…</span>")
    explorer.faces.buttons[explorer.groups["real"][0].id].click()
    assert explorer.answers.value != first and explorer.tabs[0].figure.value != figure
    explorer.squares.children[1].children[5].click()
    assert explorer.scene.hidden == {5} and "1 of 16 squares hidden" in explorer.squares.children[0].value
    explorer.squares.children[2].click()
    assert not explorer.scene.hidden
    explorer.question.value = explorer.question.options[1]
    assert "Right: <b>" in explorer.answers.value and explorer.scene.inquiry.options
    explorer.runs.value = ()
    assert "VKD" not in explorer.answers.value


def test_a_question_of_ones_own_is_put_about_other_people_too(explorer):
    people = [explorer.groups[group][0].id for group in ("retain", "real")]
    explorer.own.value = "Who is it?"
    explorer.ask_own()
    assert "Your own question" in explorer.answers.value
    explorer.faces.buttons[people[0]].click()
    assert explorer.scene.inquiry == Inquiry("Who is it?") and "Your own question" in explorer.answers.value
    explorer.own.value = " "
    explorer.ask_own()  # none is written: that of the list
    assert explorer.scene.inquiry.words == explorer.question.value and explorer.scene.inquiry.right
    explorer.own.value = "Who?"
    explorer.ask_own()
    explorer.question.value = explorer.question.options[1]
    explorer.faces.buttons[people[1]].click()
    assert explorer.scene.inquiry.right


def test_slow_tabs_wait_for_a_click_and_keep_nothing_of_others(explorer):
    for number in range(4):
        explorer.stack.selected_index = number
        tab = explorer.tabs[number]
        assert bool(tab.figure.value) == tab.ready()
        if not tab.ready():
            tab.box.children[1].children[0].click()
        assert "data:image/png" in tab.figure.value and tab.ready(), explorer.state.value
    explorer.stack.selected_index = 2
    explorer.faces.buttons[explorer.groups["real"][0].id].click()
    assert not explorer.tabs[2].figure.value


def test_an_error_is_shown_and_nothing_of_before_is_left(explorer, monkeypatch):
    from vkdlib.explorer.live import widgets

    models = widgets.compared_models

    def damaged(task, runs):
        if runs:
            raise RunError("delta.safetensors was changed since the run ended")
        return models(task, runs)

    monkeypatch.setattr(widgets, "compared_models", damaged)
    assert not is_empty(explorer)
    explorer.update()
    assert is_empty(explorer) and "was changed since the run ended" in explorer.state.value
    explorer.show_tab(explorer.tabs[3])
    assert "no model has answered" in explorer.state.value
    explorer.runs.value = ()
    assert "vanilla" in explorer.answers.value and not is_empty(explorer)
    explorer.own.value = "<image>?"
    explorer.ask_own()
    assert is_empty(explorer) and "&lt;image&gt;" in explorer.state.value
    explorer.own.value = ""
    explorer.ask_own()
    assert "vanilla" in explorer.answers.value


def test_an_error_in_unlearning_is_shown_and_answers_stand(explorer, monkeypatch):
    from vkdlib.explorer.live import widgets

    def refuse(*_, **__):
        raise ValueError("it has not memorised the faces")

    before = explorer.answers.value
    monkeypatch.setattr(widgets, "unlearn", refuse)
    explorer.unlearn_now()
    assert "not memorised" in explorer.state.value and explorer.answers.value == before
    monkeypatch.setattr(widgets, "compared_models", lambda *_: {}["vanilla"])
    with pytest.raises(KeyError):  # nobody thought of it: it is shown, and not taken for good
        explorer.update()
    assert is_empty(explorer) and "KeyError" in explorer.state.value


def test_without_any_answer_no_square_is_needed():
    from vkdlib.explorer.live.tabs import NeedTab

    scene = SimpleNamespace(inquiry=Inquiry("Who?"), before={"vanilla": Reply("", {})})
    with pytest.raises(ValueError, match="no model has an answer .*: ask something else"):
        NeedTab(scene, print).draw()


def test_a_curve_is_drawn_at_the_sliders_value_and_says_what_it_is_of(record):
    from vkdlib.explorer.live.tabs import CurveTab

    plots.use_style()
    drawn = []
    tab = CurveTab(SimpleNamespace(task=Configuration(model="m", benchmark="own/mllmu")), drawn.append)
    first = figures.picture_html(tab.draw())
    assert tab.value.options == (0.0, 1.0, 3.0)
    drawn.clear()
    tab.value.value = 3.0
    assert drawn == [tab] and figures.picture_html(tab.draw()) != first
    words = re.search('alt="(.*?)"', first)[1]
    assert "Bands: 95 % intervals with people as units" in words and re.search(r"N=\d+, \d+ people", words)
    tab.sign.value = "α"
    with pytest.raises(ValueError, match="make fig3_alpha"):
        tab.draw()


def test_the_explorer_needs_people():
    from vkdlib.explorer.live.widgets import explore

    with pytest.raises(ValueError, match="people is 0; it must be a whole number 1 or more"):
        explore(people=0)


def test_the_notebook_shows_widgets_and_then_a_page_or_what_makes_one(explorer, run, tmp_path, monkeypatch):
    """Its cells one after another, with few people, and a page in place of the real one."""
    cells = json.loads((paths.root() / "notebooks" / "90_explore.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    pages = []

    def page(run, people):
        pages.append((run.hash, people))
        (tmp_path / "page.html").write_text('<p class="a">page</p>')
        return tmp_path / "page.html"

    monkeypatch.setattr(twin, "page", page)
    names = {}
    for cell in (code[0], "people = 1", code[1]):
        exec(cell, names)
    (*_, last) = code[2].splitlines()
    exec(code[2].removesuffix(last), names)
    assert "&lt;p class=&quot;a&quot;&gt;page" in eval(last, names).data and pages == [(run.hash, 1)]
    names["task"] = replace(names["task"], draw=1)
    said = eval(last, names).data
    call = 'vkdlib.unlearn("testbed/llava", "testbed/mllmu", forget_ratio=5, draw=1)'
    assert len(pages) == 1 and call in said
    assert eval(last, names | {"twin": 0}) is None
