"""What the explorer's widgets show as HTML and CSS."""

import html

from vkdlib.benchmarks.pictures import open_image, to_png
from vkdlib.explorer.replies import Inquiry, Reply
from vkdlib.explorer.twin import data_uri
from vkdlib.reports.plots import COLOURS

SMALL = 46  # pixels of a face to choose


def tracks_css(count: int, tokens: int, size: int) -> str:
    """Rows or columns of a grid of squares; the last may have fewer tokens."""
    return " ".join(f"{min(size, tokens - n * size)}fr" for n in range(count))


def thumbnail(image: bytes) -> str:
    """A small picture as an address that holds it."""
    small = open_image(image)
    small.thumbnail((2 * SMALL, 2 * SMALL))
    return data_uri(to_png(small))


def replies_html(inquiry: Inquiry, now: dict[str, Reply], before: dict[str, Reply]) -> str:
    """Answers side by side, with the probability of each possible answer; in grey what was before something
    was hidden."""
    rows = []
    for name, reply in now.items():
        right = "" if inquiry.right is None else "#2a7f3f" if reply.text == inquiry.right else "#b3262e"
        words = f'<span style="color:{right}">{html.escape(reply.text or "(nothing)")}</span>'
        if reply.text != before[name].text:
            words += f'<br><small style="color:#777">before: {html.escape(before[name].text)}</small>'
        colour = COLOURS.get(name.split(" ")[0], "#c44e52")
        lines = [
            answer_line(answer, p, before[name].probabilities.get(answer), answer == inquiry.right, colour)
            for answer, p in reply.probabilities.items()
        ]
        cells = f"<th>{html.escape(name)}</th><td>{words}</td><td><table>{''.join(lines)}</table></td>"
        rows.append(f'<tr style="vertical-align:top">{cells}</tr>')
    truth = f"Right: <b>{html.escape(inquiry.right)}</b>" if inquiry.right else "Your own question"
    head = "<tr><th>model</th><th>in its own words</th><th>probability (%)</th></tr>"
    style = (
        "line-height:1.5;white-space:nowrap;text-align:left;border-spacing:12px 4px;border-collapse:separate"
    )
    return (
        f'<div>{html.escape(inquiry.words)} {truth}</div><table style="{style}">{head}{"".join(rows)}</table>'
    )


def answer_line(answer: str, p: float, was: float | None, right: bool, colour: str) -> str:
    """A possible answer, its probability in per cent, what it was before if it changed, and a bar."""
    bar = f'<span style="display:inline-block;height:10px;width:{90 * p:.0f}px;background:{colour}"></span>'
    changed = f' <small style="color:#777">({100 * was:.1f})</small>' if was is not None and was != p else ""
    weight = "600;color:#2a7f3f" if right else "400"
    words = f'<td style="font-weight:{weight};padding-right:10px">{html.escape(answer)}</td>'
    number = f'<td style="text-align:right;padding-right:8px">{100 * p:.1f}{changed}</td>'
    return f"<tr>{words}{number}<td>{bar}</td></tr>"
