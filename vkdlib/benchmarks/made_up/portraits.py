"""Portraits of people who do not exist: one identity, any number of views.

An *identity* (hair, hair colour, skin, beard, glasses) belongs to a person and never changes. A *view*
(expression, clothes, background, flip, rotation, crop) differs from picture to picture, so that one
person has many images. Drawn by DiceBear from the style "avataaars" (by Pablo Stanley, free for
personal and commercial use) and rasterised by resvg; the same seed always gives the same picture.
"""

import functools
import json
import random
from importlib.resources import files
from pathlib import Path

from vkdlib.system.files import read_yaml

LOOKS = read_yaml(Path(__file__).with_name("looks.yaml"))
SIZE = LOOKS["always"]["size"]  # pixels, square
HATS, VIEW = LOOKS["hats"], LOOKS["view"]
IDENTITY = {"top": LOOKS["hair"] + HATS, **LOOKS["identity"]}


def draw_identities(n: int, seed: str, looks: set[tuple] = frozenset()) -> list[dict[str, str]]:
    """Draw `n` identities that differ at a glance, from each other and from `looks` (see `appearance`).

    An identity is what stays the same in every picture of a person: part (see IDENTITY) -> variant or colour.
    Two people may share hair or glasses, but never the whole of head, colour of hair or hat, and skin.
    """
    rng, looks, people = random.Random(seed), set(looks), []
    while len(people) < n:
        identity = {part: rng.choice(variants) for part, variants in IDENTITY.items()}
        if appearance(identity) not in looks:
            looks.add(appearance(identity))
            people.append(identity)
    return people


def appearance(identity: dict[str, str]) -> tuple[str, str, str]:
    """What one sees at a glance of an identity: head, its colour, skin."""
    colour = "hat_colour" if identity["top"] in HATS else "hair_colour"
    return identity["top"], identity[colour], identity["skin"]


def render(identity: dict[str, str], view: str) -> bytes:
    """Draw a person as seen in one view.

    Args:
        identity: from `draw_identities`.
        view: any string; it seeds all that may change from picture to picture. "canonical" is the
            upright, full portrait.
    Returns:
        PNG bytes, SIZE x SIZE pixels.
    """
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    svg = Avatar(_style(), _options(identity, view)).to_string()
    return bytes(svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True))


def picture(identity: dict[str, str], view: str = "canonical") -> dict:
    """The same as a value of an image column."""
    return {"bytes": render(identity, view), "path": None}


def describe_view(identity: dict[str, str], view: str) -> tuple[str, str]:
    """What a person wears in a view, and the colour of the wall behind: ("a hoodie", "blue")."""
    options = _options(identity, view)
    clothes, wall = (VIEW[option][options[option][0]] for option in ("clothesVariant", "backgroundColor"))
    return clothes, wall


def _options(identity: dict[str, str], view: str) -> dict:
    """DiceBear options of a person in a view."""
    rng = random.Random(f"{json.dumps(identity, sort_keys=True)} {view}")
    options = {
        **LOOKS["always"],
        "topVariant": [identity["top"]],
        "hairColor": [identity["hair_colour"]],
        "hatColor": [identity["hat_colour"]],
        "facialHairColor": [identity["hair_colour"]],
        "skinColor": [identity["skin"]],
        **_optional("facialHair", identity["beard"]),
        **_optional("accessories", identity["glasses"]),
        **{option: [rng.choice(list(variants))] for option, variants in VIEW.items()},
    }
    if view != "canonical":
        options["flip"] = rng.choice(LOOKS["flip"])
        options |= {option: rng.uniform(*ends) for option, ends in LOOKS["pose"].items()}
    return options


def describe(identity: dict[str, str]) -> str:
    """Say in words what a person looks like (the benchmark's appearance answer)."""
    words = [f"{identity['top']} over {identity['skin']} skin"]
    words += [f"a {identity['beard']}"] * (identity["beard"] != "none")
    words += [f"{identity['glasses']} glasses"] * (identity["glasses"] != "none")
    return ", ".join(words) + "."


def _optional(part: str, variant: str) -> dict:
    """DiceBear options of a part that a person may lack."""
    if variant == "none":
        return {f"{part}Probability": 0}
    return {f"{part}Variant": [variant], f"{part}Probability": 100}


@functools.cache
def _style():
    from dicebear import Style

    definition = files("dicebear_styles").joinpath("avataaars.json").read_text("utf-8")
    return Style(json.loads(definition))
