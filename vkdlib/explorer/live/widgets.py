"""The explorer as widgets of a notebook. All it shows comes from the plain functions beside it."""

import contextlib
import html
from collections.abc import Iterator

import ipywidgets as w

from vkdlib.explorer import figures
from vkdlib.explorer.answers import Inquiry, inquiries
from vkdlib.explorer.compared import compared_models, groups, run_names, task_runs, task_split
from vkdlib.explorer.live.markup import answers_html
from vkdlib.explorer.live.panels import PANELS, Panel, button
from vkdlib.explorer.live.portrait import Faces, portrait
from vkdlib.explorer.live.scene import Scene
from vkdlib.public.unlearn import unlearn
from vkdlib.reports import plots
from vkdlib.runs.configuration import Configuration
from vkdlib.system.paths import RunError


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
    """The widgets, and the scene that they show; `panel` holds them all."""

    def __init__(self, task: Configuration, people: int):
        split = task_split(task)
        self.groups = {name: members[:people] for name, members in groups(split).items()}
        self.people = {p.id: p for members in self.groups.values() for p in members}
        self.state, self.progress = w.HTML(), w.Output()
        self.scene = Scene(task, split, next(iter(self.people.values())), self.progress)
        self.faces = Faces(self.groups, self.choose_person)
        self.question = w.Dropdown(description="Question", layout={"width": "420px"})
        self.own = w.Text(placeholder="or write one", layout={"width": "250px"}, continuous_update=False)
        self.runs = w.SelectMultiple(description="Runs", rows=4, layout={"width": "460px"})
        self.answers, self.squares = w.HTML(), w.VBox()
        self.panels = [made(self.scene, self.show_panel) for made in PANELS]
        self.tabs = w.Tab([panel.box for panel in self.panels], titles=[panel.title for panel in self.panels])
        self.list_runs()
        self.panel = self.layout()
        self.list_questions()
        self.question.observe(lambda _: self.choose_question(), "value")
        self.runs.observe(lambda _: self.update(), "value")
        self.tabs.observe(lambda _: self.open_panel(), "selected_index")
        self.update()

    def layout(self) -> w.Widget:
        """All widgets in their places."""
        ask = button("Ask", self.ask_own, "primary")
        again = button("Unlearn them now: VKD, a minute or more", self.unlearn_now)
        return w.VBox(
            [
                self.faces.box,
                w.HBox([self.question, self.own, ask]),
                w.HBox([self.runs, w.VBox([again, self.state])]),
                self.progress,
                w.HBox([self.squares, self.answers]),
                self.tabs,
            ]
        )

    # What there is to choose

    def list_runs(self) -> None:
        """Runs of the task to choose from; the first is chosen."""
        self.known = {run.hash: run for run in task_runs(self.scene.task)}
        names = run_names(self.known.values())
        self.runs.options = [
            (f"{names[hash]} ({run.experiment}/{hash})", hash) for hash, run in self.known.items()
        ]
        self.runs.value = tuple(self.known)[:1]
        if not self.known:
            self.say("No run of this task yet: vanilla and never-saw stand beside each other.")

    def list_questions(self) -> None:
        """Questions about the chosen person; the same one as before, if it is asked of this person, too."""
        self.inquiries = inquiries(self.scene.person)
        words = [inquiry.words for inquiry in self.inquiries]
        before, self.listing = self.question.value, True
        self.question.options = words
        self.question.value = before if before in words else words[0]
        self.listing = False
        self.scene.inquiry = self.inquiries[words.index(self.question.value)]
        self.faces.mark(self.scene.person.id)

    # What was chosen

    def choose_person(self, id: str) -> None:
        self.scene.person, self.scene.hidden = self.people[id], set()
        self.list_questions()
        self.update()

    def choose_question(self) -> None:
        if self.listing:
            return
        chosen = [inquiry for inquiry in self.inquiries if inquiry.words == self.question.value]
        if chosen and chosen[0] != self.scene.inquiry:
            self.scene.inquiry = chosen[0]
            self.update()

    def ask_own(self) -> None:
        """A question of the user's own; nobody knows the right answer."""
        if self.own.value.strip():
            self.scene.inquiry = Inquiry(self.own.value.strip())
        self.update()

    def toggle(self, square: int) -> None:
        """Hide a square, or show it again."""
        self.scene.hidden ^= {square}
        self.update()

    def show_all(self) -> None:
        """Hide no square."""
        self.scene.hidden = set()
        self.update()

    def unlearn_now(self) -> None:
        """Make the usual run of VKD of this task."""
        c = self.scene.task
        with self.work("unlearning with VKD"), self.progress:
            made = unlearn(
                c.model, c.benchmark, "VKD", experiment="explore", forget_ratio=c.forget_ratio, draw=c.draw
            )
            self.list_runs()
            self.runs.value = (made.hash,)

    # What is shown

    def update(self) -> None:
        """Ask, and show everything again."""
        scene = self.scene
        with self.work("asking"):
            scene.runs = self.runs.value
            with self.progress:
                scene.models = compared_models(scene.task, [self.known[hash] for hash in scene.runs])
            self.progress.clear_output()
            now = scene.ask()
            self.answers.value = answers_html(scene.inquiry, now, scene.before)
            self.squares.children = portrait(scene.view, scene.hidden, self.toggle, self.show_all)
        self.open_panel()

    def open_panel(self) -> None:
        """Show the panel whose tab is open, unless it waits for a click."""
        panel = self.panels[self.tabs.selected_index or 0]
        if panel.ready():
            self.show_panel(panel)

    def show_panel(self, panel: Panel) -> None:
        """Draw a panel."""
        with self.work(panel.title):
            panel.image.value = figures.png(panel.draw())

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
