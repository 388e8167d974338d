"""What is chosen in the explorer, and what was computed of it: no widget is here."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from vkdlib.benchmarks.schema import Person, Split
from vkdlib.explorer.patches import View, hide, see
from vkdlib.explorer.replies import Inquiry, Reply, replies
from vkdlib.models.loaded import Loaded
from vkdlib.runs.configuration import Configuration


@dataclass
class Scene:
    """A person, a question and models, and what these answer.

    Attributes:
        progress: within it, progress bars are shown.
        hidden: numbers of the squares that are hidden.
        runs: hashes of the runs to compare.
        models: name -> model, vanilla first.
        view: the portrait as models see it.
        before: what models answer with nothing hidden; empty where they could not be asked.
        memory: key -> what was computed.
    """

    task: Configuration
    split: Split
    person: Person
    progress: AbstractContextManager
    inquiry: Inquiry | None = None
    hidden: set[int] = field(default_factory=set)
    runs: tuple[str, ...] = ()
    models: dict[str, Loaded] = field(default_factory=dict)
    view: View | None = None
    before: dict[str, Reply] = field(default_factory=dict)
    memory: dict[tuple, object] = field(default_factory=dict)

    def key(self, what) -> tuple:
        """All that a result depends on."""
        if what == "neurons":  # of vanilla, whoever is chosen
            return (what,)
        return what, tuple(self.models), self.runs, self.person.id, self.inquiry

    def has(self, what) -> bool:
        return self.key(what) in self.memory

    def remember(self, what, work: Callable):
        """What the work returns; it is done once, with its progress bars shown."""
        key = self.key(what)
        if key not in self.memory:
            with self.progress:
                self.memory[key] = work()
        return self.memory[key]

    def ask(self) -> dict[str, Reply]:
        """What models answer with squares hidden; `view` and `before` are those of what is chosen."""
        self.view = self.remember("view", lambda: see(self.models["vanilla"], self.person.image))
        before, now = self.replies(frozenset()), self.replies(frozenset(self.hidden))
        self.before = before
        return now

    def replies(self, hidden: frozenset[int]) -> dict[str, Reply]:
        """What models answer with these squares hidden."""
        return self.remember(
            ("replies", hidden), lambda: replies(self.models, hide(self.view, hidden), self.inquiry)
        )
