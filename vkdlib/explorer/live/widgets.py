"""The explorer as widgets of a notebook. All it shows comes from the plain functions beside it."""

import contextlib
import html
from collections.abc import Callable, Iterator

import ipywidgets as w

from vkdlib.explorer import figures
from vkdlib.explorer.answers import Inquiry, Reply, hidden_replies, inquiries, possible_answers, replies
from vkdlib.explorer.attention import attention
from vkdlib.explorer.compared import compared_models, groups, run_names, task_runs, task_split
from vkdlib.explorer.curves import RECORDS, read_curve
from vkdlib.explorer.lens import logit_lens
from vkdlib.explorer.live.markup import SMALL, answers_html, thumbnail, tracks_css
from vkdlib.explorer.live.panels import SLOW, TEXTS, Panel, button
from vkdlib.explorer.neurons import forget_neurons
from vkdlib.explorer.patches import hide, see
from vkdlib.explorer.twin import data_uri, missing_record
from vkdlib.public.unlearn import unlearn
from vkdlib.reports import plots
from vkdlib.runs.configuration import Configuration
from vkdlib.system.paths import RunError

LARGE = 272  # pixels of the portrait with squares
SQUARE = {"width": "auto", "height": "auto", "margin": "0", "padding": "0", "min_width": "0"}


def explore(
    model: str = "testbed/llava",
    benchmark: str = "testbed/mllmu",
    forget_ratio: int = 5,
    draw: int = 0,
    people: int = 8,
) -> w.Widget:
    """The explorer of a task: faces, questions, runs to compare; answers, and what is behind them.

    Args:
        people: of each group to choose from: to forget, to retain, real-world.
    """
    plots.use_style()
    task = Configuration(
        model=model, benchmark=benchmark, forget_ratio=forget_ratio, draw=draw, method="vanilla"
    )
    return Explorer(task, people).panel


class Explorer:
    """The widgets and what they show; `panel` holds them all."""

    def __init__(self, task: Configuration, people: int):
        self.task, self.split = task, task_split(task)
        self.groups = {name: members[:people] for name, members in groups(self.split).items()}
        self.people = {p.id: p for members in self.groups.values() for p in members}
        self.person = next(iter(self.people.values()))
        self.hidden: set[int] = set()
        self.memory: dict[tuple, object] = {}  # what was computed
        self.state, self.progress = w.HTML(), w.Output()
        self.faces = {id: self.face_button(number, id) for number, id in enumerate(self.people)}
        self.question = w.Dropdown(description="Question", layout={"width": "420px"})
        self.own = w.Text(placeholder="or write one", layout={"width": "250px"}, continuous_update=False)
        self.runs = w.SelectMultiple(description="Runs", rows=4, layout={"width": "460px"})
        self.answers, self.squares = w.HTML(), w.VBox()
        self.tabs = w.Tab([panel.box for panel in self.make_panels()])
        for number, panel in enumerate(self.panels):
            self.tabs.set_title(number, panel.title)
        self.list_runs()
        self.panel = self.layout()
        self.list_questions()
        self.question.observe(lambda _: self.choose_question(), "value")
        self.runs.observe(lambda _: self.update(), "value")
        self.tabs.observe(lambda _: self.update_panel(), "selected_index")
        self.update()

    # What there is to choose

    def face_button(self, number: int, id: str) -> w.Button:
        """A portrait that can be clicked; its picture is a style of its class."""
        button = w.Button(
            tooltip=self.people[id].name,
            layout={"width": f"{SMALL}px", "height": f"{SMALL}px", "margin": "1px"},
        )
        button.add_class(f"vkd-face-{number}")
        button.on_click(lambda _: self.choose_person(id))
        return button

    def layout(self) -> w.Widget:
        """All widgets in their places."""
        styles = "".join(
            f".vkd-face-{n}{{background:url({thumbnail(p.image)}) center/cover!important}}"
            for n, p in enumerate(self.people.values())
        )
        styles += ".vkd-chosen{outline:3px solid #c44e52!important}"
        styles += ".vkd-portrait button{background:none!important;outline:1px solid #ffffff66}"
        rows = [
            w.HBox([w.Label(name, layout={"width": "60px"}), *(self.faces[p.id] for p in members)])
            for name, members in self.groups.items()
        ]
        ask = button("Ask", self.ask_own, "primary")
        again = button("Unlearn them now: VKD, a minute or more", self.unlearn_now)
        return w.VBox(
            [
                w.HTML(f"<style>{styles}</style>"),
                *rows,
                w.HBox([self.question, self.own, ask]),
                w.HBox([self.runs, w.VBox([again, self.state])]),
                self.progress,
                w.HBox([self.squares, self.answers]),
                self.tabs,
            ]
        )

    def list_runs(self) -> None:
        """Runs of the task to choose from; the first is chosen."""
        self.known = {run.hash: run for run in task_runs(self.task)}
        names = run_names(self.known.values())
        self.runs.options = [
            (f"{names[hash]} ({run.experiment}/{hash})", hash) for hash, run in self.known.items()
        ]
        self.runs.value = tuple(self.known)[:1]
        if not self.known:
            self.say("No run of this task yet: vanilla and never-saw stand beside each other.")

    def list_questions(self) -> None:
        """Questions about the chosen person; the same one as before, if it is asked of this person, too."""
        self.inquiries = inquiries(self.person)
        words = [inquiry.words for inquiry in self.inquiries]
        before, self.listing = self.question.value, True
        self.question.options = words
        self.question.value = before if before in words else words[0]
        self.listing = False
        self.inquiry = self.inquiries[words.index(self.question.value)]
        for id, face in self.faces.items():
            (face.add_class if id == self.person.id else face.remove_class)("vkd-chosen")

    # What was chosen

    def choose_person(self, id: str) -> None:
        self.person, self.hidden = self.people[id], set()
        self.list_questions()
        self.update()

    def choose_question(self) -> None:
        if self.listing:
            return
        chosen = [inquiry for inquiry in self.inquiries if inquiry.words == self.question.value]
        if chosen and chosen[0] != self.inquiry:
            self.inquiry = chosen[0]
            self.update()

    def ask_own(self) -> None:
        """A question of the user's own; nobody knows the right answer."""
        if self.own.value.strip():
            self.inquiry = Inquiry(self.own.value.strip())
        self.update()

    def toggle(self, square: int) -> None:
        """Hide a square, or show it again."""
        self.hidden ^= {square}
        self.update()

    def unlearn_now(self) -> None:
        """Make the usual run of VKD of this task."""
        c = self.task
        with self.work("unlearning with VKD"), self.progress:
            made = unlearn(
                c.model, c.benchmark, "VKD", experiment="explore", forget_ratio=c.forget_ratio, draw=c.draw
            )
            self.list_runs()
            self.runs.value = (made.hash,)

    # What is shown

    def update(self) -> None:
        """Ask, and show everything again."""
        with self.work("asking"):
            runs = [self.known[hash] for hash in self.runs.value]
            with self.progress:
                self.models = compared_models(self.task, runs)
            self.progress.clear_output()
            self.view = self.remember("view", lambda: see(self.models["vanilla"], self.person.image))
            self.before = self.replies(frozenset())
            now = self.replies(frozenset(self.hidden))
            self.answers.value = answers_html(self.inquiry, now, self.before)
            self.show_squares()
        self.update_panel()

    def replies(self, hidden: frozenset[int]) -> dict[str, Reply]:
        """What models answer with some squares hidden."""

        def ask() -> dict[str, Reply]:
            return replies(self.models, hide(self.view, hidden), self.inquiry)

        return self.remember(("replies", hidden), ask)

    def show_squares(self) -> None:
        """The portrait, with a button on each square."""
        view = self.view
        rows, columns = view.squares
        cells = []
        for square in range(rows * columns):
            cell = w.Button(tooltip=f"square {square + 1}", layout=SQUARE)
            cell.on_click(lambda _, square=square: self.toggle(square))
            cells.append(cell)
        sides = {"width": f"{LARGE}px", "height": f"{LARGE * view.rows // view.columns}px", "grid_gap": "0"}
        tracks = {
            "grid_template_rows": tracks_css(rows, view.rows, view.size),
            "grid_template_columns": tracks_css(columns, view.columns, view.size),
        }
        grid = w.GridBox(cells, layout=sides | tracks)
        grid.add_class("vkd-portrait")
        picture = data_uri(hide(view, self.hidden))
        count = len(self.hidden)
        title = f"{count} of {rows * columns} squares hidden" if count else "Click a square to hide it"
        style = f"<style>.vkd-portrait{{background:url({picture}) 0 0/100% 100%}}</style>"
        again = button("Show all squares", self.show_all)
        self.squares.children = [w.HTML(style + f"<small>{title}</small>"), grid, again]

    def show_all(self) -> None:
        self.hidden = set()
        self.update()

    def update_panel(self) -> None:
        """Draw the panel that is open."""
        panel = self.panels[self.tabs.selected_index or 0]
        if panel.ready():
            with self.work(panel.title):
                panel.image.value = figures.png(panel.draw())

    def make_panels(self) -> list[Panel]:
        """The figures below the answers."""
        wide = {"style": {"button_width": "auto"}}
        self.kind = w.ToggleButtons(options={"raw": "raw", "without sinks": "without_sinks"}, **wide)
        self.layer = w.Dropdown(options=["mean"], description="Layer", layout={"width": "180px"})
        self.right = w.ToggleButtons(options={"most probable word": False, "the right name": True}, **wide)
        self.depth = w.IntSlider(min=1, max=1, value=1, description="Layer")
        self.sign = w.ToggleButtons(options=list(RECORDS), **wide)
        self.value = w.SelectionSlider(options=[0.0], description="value")
        for control in (self.kind, self.layer, self.right, self.depth, self.sign, self.value):
            control.observe(lambda _: self.update_panel(), "value")
        self.panels = [
            Panel(*TEXTS["attention"], [self.kind, self.layer], self.draw_attention),
            Panel(*TEXTS["lens"], [self.right, self.depth], self.draw_lens),
            Panel(*TEXTS["need"], [self.start("need")], self.draw_need, lambda: self.has("need")),
            Panel(*TEXTS["neurons"], [self.start("neurons")], self.draw_neurons, lambda: self.has("neurons")),
            Panel(*TEXTS["curves"], [self.sign, self.value], self.draw_curve),
        ]
        return self.panels

    def draw_attention(self):
        """Where each model's own answer looks; an empty one looks as the right answer would, or as any."""
        looks = self.remember("attention", self.look)
        layers = next(iter(looks.values())).raw.shape[0]
        if len(self.layer.options) != layers + 1:
            self.layer.options = ["mean", *range(1, layers + 1)]
        shares = {
            name: 100 * getattr(look, self.kind.value) for name, look in looks.items()
        }  # (layers, tokens)
        chosen = self.layer.value
        rows = {
            name: (s.mean(0) if chosen == "mean" else s[chosen - 1]).tolist() for name, s in shares.items()
        }
        titles = {name: f"{name}: {sum(row):.1f} % to the picture" for name, row in rows.items()}
        return figures.patch_maps(self.view, rows, titles)

    def look(self) -> dict:
        """The attention of each model's own answer."""
        words, right = self.inquiry.words, self.inquiry.right or "?"
        return {
            name: attention(loaded, self.view.image, words, self.before[name].text or right)
            for name, loaded in self.models.items()
        }

    def draw_lens(self):
        """What image tokens say; they do not see the question."""
        image, name = self.view.image, self.person.name
        lenses = self.remember(
            "lens", lambda: {m: logit_lens(loaded, image, name) for m, loaded in self.models.items()}
        )
        if self.depth.max != (layers := len(next(iter(lenses.values())).words)):
            self.depth.max = self.depth.value = layers
        layer = self.depth.value - 1
        shares = {
            m: (lens.right if self.right.value else lens.probability)[layer] for m, lens in lenses.items()
        }
        words = {} if self.right.value else {m: lens.words[layer] for m, lens in lenses.items()}
        return figures.patch_maps(
            self.view, {m: (100 * s).tolist() for m, s in shares.items()}, {}, words, 100
        )

    def draw_need(self):
        """What vanilla's answer, or the right one, loses by each square."""
        answers = possible_answers(self.inquiry, [reply.text for reply in self.before.values()])
        needed = self.inquiry.right or answers[0]
        hidden = self.remember(
            "need",
            lambda: {
                m: hidden_replies(loaded, self.view, self.inquiry, answers)
                for m, loaded in self.models.items()
            },
        )
        before = {m: reply.probabilities[needed] for m, reply in self.before.items()}
        losses = {
            m: [100 * (before[m] - r.probabilities[needed]) for r in rows] for m, rows in hidden.items()
        }
        titles = {m: f"{m}: {needed} {100 * p:.1f} %" for m, p in before.items()}
        return figures.patch_maps(self.view, losses, titles)

    def draw_neurons(self):
        """Of vanilla, whoever is chosen."""
        neurons = self.remember("neurons", lambda: forget_neurons(self.models["vanilla"], self.split))
        people = {p.id: p for p in (*self.split.forget, *self.split.retain)}
        return figures.neuron_faces(neurons, people)

    def draw_curve(self):
        """A curve of the papers' figures, with the value of the slider."""
        sign = self.sign.value
        try:
            curve = read_curve(sign, self.task.model, self.task.benchmark)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(missing_record(sign, error)) from error
        if list(self.value.options) != curve.values:
            self.value.options = curve.values
        return figures.curve(curve, sign, self.value.value)

    # What all of it shares

    def key(self, what) -> tuple:
        """All that a result depends on."""
        if what == "neurons":
            return (what,)
        return what, tuple(self.models), self.runs.value, self.person.id, self.inquiry

    def has(self, what) -> bool:
        return self.key(what) in self.memory

    def remember(self, what, work: Callable):
        """What the work returns; it is done once, with its progress bars shown."""
        key = self.key(what)
        if key not in self.memory:
            with self.progress:
                self.memory[key] = work()
        return self.memory[key]

    def start(self, what: str) -> w.Button:
        """A button that starts slow work and draws what comes out."""

        def begin() -> None:
            panel = self.panels[self.tabs.selected_index]
            with self.work(panel.title):
                panel.image.value = figures.png(panel.draw())

        return button(f"Compute ({SLOW[what]})", begin, "primary")

    @contextlib.contextmanager
    def work(self, what: str) -> Iterator[None]:
        """Within: it says what is being done. An error that names its mend is shown, and stops nothing."""
        self.say(f"{what} …")
        try:
            yield
        except (ValueError, FileNotFoundError, RunError, MemoryError) as error:
            self.say(str(error), "#b3262e")
        else:
            self.say("")

    def say(self, text: str, colour: str = "#555") -> None:
        self.state.value = f'<span style="color:{colour}">{html.escape(text)}</span>'
