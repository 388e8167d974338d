"""The faces to choose from, and the portrait with its squares to hide."""

from collections.abc import Callable, Mapping, Sequence

import ipywidgets as w

from vkdlib.benchmarks.schema import Person
from vkdlib.explorer.live.markup import SMALL, thumbnail, tracks_css
from vkdlib.explorer.live.tabs import button
from vkdlib.explorer.patches import View, hide
from vkdlib.explorer.twin import data_uri

LARGE = 272  # pixels of the portrait with squares
SQUARE = {"width": "auto", "height": "auto", "margin": "0", "padding": "0", "min_width": "0"}


class Faces:
    """Rows of small portraits, one a group; a click chooses a person.

    Attributes:
        buttons: id -> button.
        box: all of them, with the styles that are their pictures.
    """

    def __init__(self, groups: Mapping[str, Sequence[Person]], choose: Callable[[str], None]):
        self.buttons: dict[str, w.Button] = {}
        styles = ".vkd-chosen{outline:3px solid #c44e52!important}"
        rows = []
        for group, people in groups.items():
            row = [w.Label(group, layout={"width": "60px"})]
            for person in people:
                number = len(self.buttons)
                styles += (
                    f".vkd-face-{number}{{background:url({thumbnail(person.image)}) center/cover!important}}"
                )
                row.append(self.button(person, number, choose))
            rows.append(w.HBox(row))
        self.box = w.VBox([w.HTML(f"<style>{styles}</style>"), *rows])

    def button(self, person: Person, number: int, choose: Callable[[str], None]) -> w.Button:
        """A portrait that can be clicked; its picture is a style of its class."""
        size = {"width": f"{SMALL}px", "height": f"{SMALL}px", "margin": "1px"}
        face = self.buttons[person.id] = w.Button(tooltip=person.name, layout=size)
        face.add_class(f"vkd-face-{number}")
        face.on_click(lambda _: choose(person.id))
        return face

    def mark(self, id: str) -> None:
        """Frame this person's face alone."""
        for other, face in self.buttons.items():
            (face.add_class if other == id else face.remove_class)("vkd-chosen")


def portrait(
    view: View, hidden: set[int], toggle: Callable[[int], None], show_all: Callable[[], None]
) -> list[w.Widget]:
    """How many squares are hidden, the portrait with a button on each square, and one that shows all again.

    Args:
        toggle: hides a square, or shows it again.
    """
    rows, columns = view.squares
    cells = []
    for square in range(rows * columns):
        cell = w.Button(tooltip=f"square {square + 1}", layout=SQUARE)
        cell.on_click(lambda _, square=square: toggle(square))
        cells.append(cell)
    sides = {"width": f"{LARGE}px", "height": f"{LARGE * view.rows // view.columns}px", "grid_gap": "0"}
    tracks = {
        "grid_template_rows": tracks_css(rows, view.rows, view.size),
        "grid_template_columns": tracks_css(columns, view.columns, view.size),
    }
    grid = w.GridBox(cells, layout=sides | tracks)
    grid.add_class("vkd-portrait")
    style = f".vkd-portrait{{background:url({data_uri(hide(view, hidden))}) 0 0/100% 100%}}"
    style += ".vkd-portrait button{background:none!important;outline:1px solid #ffffff66}"
    title = f"{len(hidden)} of {len(cells)} squares hidden" if hidden else "Click a square to hide it"
    words = w.HTML(f"<style>{style}</style><small>{title}</small>")
    return [words, grid, button("Show all squares", show_all)]
