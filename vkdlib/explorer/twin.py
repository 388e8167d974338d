"""The static twin of the explorer: one HTML file that needs neither a kernel nor a network."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path

from vkdlib.benchmarks.schema import Person, Split
from vkdlib.experiments.model_names import CONTROLS
from vkdlib.explorer.attention import attention
from vkdlib.explorer.beta_alpha import RECORDS, read_curve
from vkdlib.explorer.compared import compared_models, groups, task_runs, task_split
from vkdlib.explorer.lens import logit_lens
from vkdlib.explorer.neurons import forget_neurons
from vkdlib.explorer.patches import View, see
from vkdlib.explorer.replies import Inquiry, hidden_replies, inquiries, possible_answers, replies
from vkdlib.models.folders import short_name
from vkdlib.models.loaded import Loaded
from vkdlib.reports.columns import NAMES
from vkdlib.reports.plots import COLOURS
from vkdlib.runs.configuration import Configuration
from vkdlib.runs.run_folder import Run
from vkdlib.system import files, paths
from vkdlib.system.checks import check_names, whole_number
from vkdlib.system.progress import bar

TEMPLATE = Path(__file__).parent / "page.html"
ASKED = 3  # questions about a person: the name, and the first of the benchmark's
LAYERS = 8  # of a deep model, those that are shown: the last and others evenly before it
FACES = 6  # that excite a neuron most


def page(run: Run, people: Sequence[str] | int = 3, file: str | Path | None = None) -> Path:
    """Write what the explorer shows of a run, for some people, as one self-contained HTML file.

    Args:
        run: a finished one that unlearned, and whose model is not attacked and asked as usual.
        people: ids; or how many to forget, to retain, and real-world ones.
        file: None: explore/<hash>.html beside the runs.
    Returns:
        file.
    Raises:
        RunError: the run is not whole.
        ValueError: it is no such run, or there is no such person.
    """
    check_page_run(run)
    file = Path(file or paths.runs() / "explore" / f"{run.hash}.html")
    content = page_text(page_data(run, people))
    files.make_folder(file.parent)
    with files.whole_file(file) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return file


def check_page_run(run: Run) -> None:
    """Raise ValueError unless a run has a model before and one after unlearning to show; RunError if it is
    not whole."""
    if not isinstance(run, Run):
        raise ValueError(f"run is {run!r}; it must be a run, as vkdlib.unlearn and read_run return")
    run.check()
    c = run.configuration
    if c.method in CONTROLS:
        raise ValueError(f"run {run.hash} is of {c.method} as it is: give one that unlearned")
    if c != c.usual:
        raise ValueError(
            f"run {run.hash} attacked its model, or asked it in a way of its own: give the usual one"
        )


def page_text(data: dict) -> str:
    """The page with its data in it."""
    content = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")  # nothing ends the script's element
    title = html.escape(data["title"])
    return TEMPLATE.read_text(encoding="utf-8").replace("{{title}}", title).replace("{{data}}", content)


def page_data(run: Run, people: Sequence[str] | int) -> dict:
    """All that the page shows, as JSON can hold it."""
    c, split = run.configuration, task_split(run.configuration)
    models = compared_models(c, [run])
    model, benchmark = (NAMES.get(name, short_name(name)) for name in (c.model, c.benchmark))
    facts = f"{c.forget_ratio} % of the people of {benchmark}, draw {c.draw}"
    return {
        "title": f"{model} before and after {c.method}",
        "about": f"To forget: {facts}. Run {run.hash}.",
        "models": {name: COLOURS.get(name.split(" ")[0], "#c44e52") for name in models},
        "people": [person_data(models, *pair) for pair in bar(choose_people(split, people), "people")],
        "neurons": neuron_data(models["vanilla"], split),
        "curves": {sign: curve_data(sign, c) for sign in RECORDS},
    }


def choose_people(split: Split, ids: Sequence[str] | int) -> list[tuple[Person, str]]:
    """(person, group) of ids, in their order; or of the first few of each group."""
    members = {group: [(person, group) for person in people] for group, people in groups(split).items()}
    if isinstance(ids, Integral):
        count = whole_number("people", ids, 1)
        return [pair for pairs in members.values() for pair in pairs[:count]]
    by_id = {person.id: (person, group) for pairs in members.values() for person, group in pairs}
    check_names("the task", ids, list(by_id))
    return [by_id[id] for id in ids]


def person_data(models: Mapping[str, Loaded], person: Person, group: str) -> dict:
    """What models make of a person's portrait."""
    view = see(models["vanilla"], person.image)
    lenses = {name: logit_lens(loaded, view.image, person.name) for name, loaded in models.items()}
    return {
        "id": person.id,
        "name": person.name,
        "group": group,
        "picture": data_uri(view.image),
        "tokens": [view.rows, view.columns],
        "squares": view.squares,
        "inquiries": [inquiry_data(models, view, inquiry) for inquiry in inquiries(person)[:ASKED]],
        "lens": {
            name: {
                "layers": some_layers(len(lens.words)),
                "words": [lens.words[n - 1] for n in some_layers(len(lens.words))],
                "probability": rounded(lens.probability),
                "right": rounded(lens.right),
            }
            for name, lens in lenses.items()
        },
    }


def inquiry_data(models: Mapping[str, Loaded], view: View, inquiry: Inquiry) -> dict:
    """Answers of models about a picture, as it is and with each square hidden, and where they look."""
    first = replies(models, view.image, inquiry)
    answers = possible_answers(inquiry, [reply.text for reply in first.values()])
    looks, hidden = {}, {}
    for name, loaded in models.items():
        look = attention(loaded, view.image, inquiry.words, first[name].text or answers[0])
        looks[name] = {"raw": rounded(look.raw), "without_sinks": rounded(look.without_sinks)}
        hidden[name] = [
            [_reply(reply) for reply in hidden_replies(loaded, view, inquiry, answers, reach)]
            for reach in (0, 1)
        ]
    return {
        "words": inquiry.words,
        "right": inquiry.right,
        "options": bool(inquiry.options),
        "answers": answers,
        "replies": {name: _reply(reply) for name, reply in first.items()},
        "attention": looks,
        "hidden": hidden,
    }


def _reply(reply) -> dict:
    return {"text": reply.text, "p": [round(p, 4) for p in reply.probabilities.values()]}


def some_layers(count: int) -> list[int]:
    """Numbers of the layers that are shown, from 1: all, or LAYERS of them."""
    few = min(count, LAYERS)
    return [round(count * n / few) for n in range(1, few + 1)]


def rounded(layers) -> list[list[float]]:
    """The layers that are shown of a tensor (layers, tokens), with four decimals."""
    return [[round(v, 4) for v in layers[n - 1].tolist()] for n in some_layers(len(layers))]


def neuron_data(loaded: Loaded, split: Split) -> list[dict]:
    """The neurons that Eq. 7 picks in vanilla, and the faces that excite them most and least."""
    people = {p.id: p for p in (*split.forget, *split.retain)}

    def face(id: str, group: str, z: float) -> dict:
        return {"name": people[id].name, "group": group, "z": z, "picture": data_uri(people[id].image)}

    return [
        {
            "block": neuron.block,
            "number": neuron.number,
            "ratio": neuron.ratio,
            "most": [face(*f) for f in neuron.faces[:FACES]],
            "least": [face(*f) for f in neuron.faces[-2:]],
        }
        for neuron in forget_neurons(loaded, split)
    ]


def curve_data(sign: str, c: Configuration) -> dict:
    """A curve of the papers' figures; if its record is not there, what makes it."""
    try:
        curve = read_curve(sign, c.model, c.benchmark)
    except (FileNotFoundError, ValueError) as error:
        return {"missing": missing_record(sign, error)}
    points = [curve.points(value) for value in curve.values]
    return {
        "values": curve.values,
        "points": [json.loads(table.to_json(orient="index")) for table in points],
    }


def missing_record(sign: str, error: Exception) -> str:
    """What is missing of a curve, and the command that makes it; without the paths of this machine."""
    text, command = str(error).replace(str(paths.figures()), "figures"), f"make {RECORDS[sign]}"
    return text if command in text else f"{text}: {command}"


def data_uri(image: bytes) -> str:
    """A PNG or JPEG file as an address that holds it."""
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def task_page(task: Configuration, people: int):
    """The page of a task's first run, for a notebook and what nbconvert makes of it; with no run, what makes
    one.

    Args:
        people: how many of each group.
    """
    from IPython.display import HTML, Markdown

    if runs := task_runs(task):
        return HTML(frame(page(runs[0], people)))
    names = f'"{task.model}", "{task.benchmark}", forget_ratio={task.forget_ratio}, draw={task.draw}'
    return Markdown(
        "There is no page, for no run of this task is there. Press *Unlearn them now* above, or execute "
        f"`vkdlib.unlearn({names})`. Then execute this cell again."
    )


def frame(file: Path, height: int = 900) -> str:
    """A page inside another."""
    content, style = html.escape(file.read_text(encoding="utf-8")), "border:1px solid #ccc"
    element = f'<iframe srcdoc="{content}" width="100%" height="{height}" style="{style}"></iframe>'
    return f"<div>{element}</div>"
