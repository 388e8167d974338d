"""What a figure says of itself: its caption, its content in words, and the files that it follows from."""

import base64
import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from PIL import Image

from vkdlib.system import files, paths

CAPTION = "caption"  # gid of its text
ACROSS = 14.5  # letters of 9 pt in an inch
PAGE = 96  # pixels of a page in an inch
COLOURS = 256  # of a figure within a notebook, which is to stay small


def caption(figure: plt.Figure, text: str) -> None:
    """Put a caption below a figure, in the place of an earlier one: how many questions and people, and what a
    bar or a band is."""
    for earlier in [words for words in figure.texts if words.get_gid() == CAPTION]:
        earlier.remove()
    lines = textwrap.fill(text, int(ACROSS * figure.get_figwidth()))
    figure.text(0, -0.06 / figure.get_figheight(), lines, va="top", gid=CAPTION)


def in_words(figure: plt.Figure) -> str:
    """What a figure shows, for those who cannot see it: titles, words within, axes, legend and caption."""
    titles = [": ".join(filter(None, (ax.get_title(), words_within(ax)))) for ax in figure.axes]
    axes = [" against ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel()))) for ax in figure.axes]
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    lines = [", ".join(text.get_text() for text in legend.get_texts()) for legend in legends]
    captions = [text.get_text() for text in figure.texts if text.get_gid() == CAPTION]
    parts = (" ".join(part.split()) for part in (figure.get_suptitle(), *titles, *axes, *lines, *captions))
    return ". ".join(part.removesuffix(".") for part in dict.fromkeys(parts) if part) + "."


def words_within(ax: plt.Axes) -> str:
    """What is written within an axis, without numbers: these say nothing without their places."""
    return ", ".join(text for text in (t.get_text() for t in ax.texts) if any(map(str.isalpha, text)))


def data_file(name: str) -> Path:
    """The file that a figure follows from: a table of figures/data by its name, or a file of the package by
    its path in it."""
    return paths.PACKAGE / name if "/" in name else paths.figures() / "data" / f"{name}.csv"


def fingerprints(names: Iterable[str]) -> str:
    """Each of the files that a figure follows from (`data_file`), with the first digits of its hash.

    Raises:
        FileNotFoundError: one is not there.
    """
    return ", ".join(f"{name} {files.file_hash(data_file(name))[:12]}" for name in names)


def drawn_from(file: Path) -> str:
    """The `fingerprints` that a figure (PDF or PNG) or a table in LaTeX was saved with; "": with none."""
    if file.suffix == ".png":
        return Image.open(file).text.get("Source", "")
    if file.suffix == ".tex":
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        return first.removeprefix("% ") if first.startswith("% ") else ""
    saved = re.search(rb"/Keywords \((.*?)\)", file.read_bytes())
    return saved[1].decode() if saved else ""


def metadata(figure: plt.Figure, data: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """What a PDF and a PNG say of themselves; no time of day, so that a figure always has the same bytes."""
    words, source = in_words(figure), fingerprints(data)
    return {
        "pdf": {"CreationDate": None, "Subject": words, "Keywords": source},
        "png": {"Software": None, "Description": words, "Source": source},
    }


def inline_picture(figure: plt.Figure) -> tuple[str, dict[str, int | str]]:
    """A figure within a notebook: a PNG of 200 dpi, as large on the page as it was made, with an alternative
    text."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight")
    picture = Image.open(drawn).convert("RGB").quantize(COLOURS)
    picture.save(small, format="png", optimize=True)
    width, height = (round(side * PAGE / mpl.rcParams["savefig.dpi"]) for side in picture.size)
    text = base64.b64encode(small.getvalue()).decode()
    return text, {"width": width, "height": height, "alt": in_words(figure)}


def use_style() -> None:
    """Use the kit's figure style from here on, in a notebook with `inline_picture`."""
    plt.style.use(Path(__file__).with_name("figures.mplstyle"))
    if "inline" in plt.get_backend():
        import matplotlib_inline.backend_inline  # noqa: F401  # it registers its own picture, so it goes first
        from IPython import get_ipython

        if shell := get_ipython():
            shell.display_formatter.formatters["image/png"].for_type(plt.Figure, inline_picture)
