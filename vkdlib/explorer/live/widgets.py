"""The explorer as widgets of a notebook. All it shows comes from the plain functions beside it."""

import contextlib
import html
from collections.abc import Callable, Iterator

import ipywidgets as w

from vkdlib.explorer import figures
from vkdlib.explorer.compared import compared_models, groups, run_names, task_runs, task_split
from vkdlib.explorer.live.markup import replies_html
from vkdlib.explorer.live.portrait import Faces, portrait
from vkdlib.explorer.live.scene import Scene
from vkdlib.explorer.live.tabs import TABS, Tab, button
from vkdlib.explorer.replies import Inquiry, inquiries
from vkdlib.public.unlearn import unlearn
from vkdlib.reports import plots
from vkdlib.runs.configuration import Configuration
from vkdlib.system.checks import whole_number
from vkdlib.system.paths import RunError

NO_RUN = "No run of this task yet: vanilla and never-saw stand beside each other."


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
    task = Configuration(
        model=model, benchmark=benchmark, forget_ratio=forget_ratio, draw=draw, method="vanilla"
    )
    return Explorer(task, people).box


class Progress(w.Output):
    """Where progress bars are shown. An error goes through it, to whoever shows it: in a kernel an Output
    prints an error and keeps it to itself."""

    def __exit__(self, *error):
        return super().__exit__(None, None, None)


class Explorer:
    """The widgets, and the scene that they show; `box` holds them all."""

    def __init__(self, task: Configuration, people: int):
        plots.use_style()
        people, split = whole_number("people", people, 1), task_split(task)
        self.groups = {name: members[:people] for name, members in groups(split).items()}
        self.people = {p.id: p for members in self.groups.values() for p in members}
        self.state, self.progress = w.HTML(), Progress()
        self.scene = Scene(task, split, next(iter(self.people.values())), self.progress)
        self.faces = Faces(self.groups, self.choose_person)
        self.question = w.Dropdown(description="Question", layout={"width": "420px"})
        self.own = w.Text(placeholder="or write one", layout={"width": "250px"}, continuous_update=False)
        self.runs = w.SelectMultiple(description="Runs", rows=4, layout={"width": "460px"})
        self.answers, self.squares = w.HTML(), w.VBox()
        self.tabs = [tab(self.scene, self.show_tab) for tab in TABS]
        self.stack = w.Tab([tab.box for tab in self.tabs], titles=[tab.title for tab in self.tabs])
        self.list_runs()
        self.box = self.layout()
        self.list_questions()
        self.question.observe(lambda _: self.choose_question(), "value")
        self.runs.observe(lambda _: self.choose_runs(), "value")
        self.stack.observe(lambda _: self.open_tab(), "selected_index")
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
                self.stack,
            ]
        )

    # What there is to choose

    def list_runs(self, hash: str | None = None) -> None:
        """Runs of the task to choose from; this one, or else the first, is chosen."""
        self.by_hash, self.listing = {run.hash: run for run in task_runs(self.scene.task)}, True
        names = run_names(self.by_hash.values())
        self.runs.options = [
            (f"{names[hash]} ({run.experiment}/{hash})", hash) for hash, run in self.by_hash.items()
        ]
        self.runs.value = (hash,) if hash in self.by_hash else tuple(self.by_hash)[:1]
        self.listing = False

    def list_questions(self) -> None:
        """Questions about the person; the same one as before, if it is asked of this person, too. A question
        of the user's own can be asked of everybody."""
        self.inquiries = inquiries(self.scene.person)
        words = [inquiry.words for inquiry in self.inquiries]
        before, self.listing = self.question.value, True
        self.question.options = words
        self.question.value = before if before in words else words[0]
        self.listing = False
        if self.scene.inquiry is None or self.scene.inquiry.right:
            self.scene.inquiry = self.listed_inquiry()
        self.faces.mark(self.scene.person.id)

    def listed_inquiry(self) -> Inquiry:
        """The question that is chosen in the list."""
        return next(inquiry for inquiry in self.inquiries if inquiry.words == self.question.value)

    # What is chosen

    def choose_person(self, id: str) -> None:
        self.scene.person, self.scene.hidden = self.people[id], set()
        self.list_questions()
        self.update()

    def choose_question(self) -> None:
        if not self.listing:
            self.scene.inquiry = self.listed_inquiry()
            self.update()

    def choose_runs(self) -> None:
        if not self.listing:
            self.update()

    def ask_own(self) -> None:
        """A question of the user's own, whose right answer nobody knows; if none is written, that of the
        list."""
        words = self.own.value.strip()
        self.scene.inquiry = Inquiry(words) if words else self.listed_inquiry()
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
        run = None
        with self.work("unlearning with VKD"), self.progress:
            run = unlearn(
                c.model, c.benchmark, "VKD", experiment="explore", forget_ratio=c.forget_ratio, draw=c.draw
            )
        if run:
            self.list_runs(run.hash)
            self.update()

    # What is shown

    def update(self) -> None:
        """Ask, and show everything again; where that fails, nothing of before is left standing."""
        scene = self.scene
        scene.runs, scene.models, scene.before = self.runs.value, {}, {}
        with self.work("asking", self.clear):
            with self.progress:
                scene.models = compared_models(scene.task, [self.by_hash[hash] for hash in scene.runs])
            now = scene.ask()
            self.answers.value = replies_html(scene.inquiry, now, scene.before)
            self.squares.children = portrait(scene.view, scene.hidden, self.toggle, self.show_all)
        self.open_tab()

    def open_tab(self) -> None:
        """Show what the open tab has, unless it waits for a click or for answers."""
        tab = self.tabs[self.stack.selected_index or 0]
        if self.scene.before and tab.ready():
            self.show_tab(tab)
        else:
            tab.clear()

    def show_tab(self, tab: Tab) -> None:
        """Draw a tab's figure."""
        with self.work(tab.title, tab.clear):
            if not self.scene.before:
                raise ValueError("no model has answered: choose another question, or other runs")
            tab.figure.value = figures.picture_html(tab.draw())

    def clear(self) -> None:
        """Show nothing of what was asked."""
        self.answers.value, self.squares.children = "", ()
        for tab in self.tabs:
            tab.clear()

    @contextlib.contextmanager
    def work(self, what: str, clear: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Within: it says what is being done. An error is shown, instead of what `clear` takes away; one that
        names its mend stops nothing."""
        self.say(f"{what} …")
        try:
            yield
        except Exception as error:
            clear()
            mends = isinstance(error, (ValueError, FileNotFoundError, RunError, MemoryError))
            self.say(str(error) if mends else f"{type(error).__name__}: {error}", plots.WRONG)
            if not mends:
                raise
        else:
            self.say("" if self.by_hash else NO_RUN)
        finally:
            self.progress.clear_output()

    def say(self, text: str, colour: str = "#555") -> None:
        self.state.value = f'<span style="color:{colour}">{html.escape(text)}</span>'
