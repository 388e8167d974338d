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

SIZE = 64  # pixels, square
SKINS = ["#614335", "#ae5d29", "#d08b5b", "#edb98a", "#ffdbb4"]
HAIR_COLOURS = ["#2c1b18", "#724133", "#b58143", "#d6b370", "#c93305", "#e8e1e1"]
HAT_COLOURS = ["#25557c", "#a7ffc4", "#ff488e", "#ff5c5c", "#ffffb1", "#3c4f5c"]
HATS = ["hat", "hijab", "turban", "winterHat02", "winterHat03", "winterHat04", "winterHat1"]
HAIR = [
    "bigHair", "bob", "bun", "curly", "curvy", "dreads", "dreads01", "frida", "frizzle", "fro",
    "froBand", "longButNotTooLong", "miaWallace", "shaggy", "shaggyMullet", "shavedSides",
    "shortCurly", "shortFlat", "shortRound", "shortWaved", "sides", "straight01", "straight02",
    "straightAndStrand", "theCaesar", "theCaesarAndSidePart",
]  # fmt: skip
BEARDS = ["none", "none", "none", "beardLight", "beardMajestic", "beardMedium", "moustacheFancy"]
GLASSES = ["none", "none", "none", "kurt", "prescription01", "prescription02", "round", "eyepatch"]

EYES = ["closed", "default", "eyeRoll", "happy", "side", "squint", "surprised", "wink"]
EYEBROWS = ["default", "defaultNatural", "flatNatural", "raisedExcited", "sadConcerned", "upDown"]
MOUTHS = ["default", "disbelief", "sad", "serious", "smile", "tongue", "twinkle"]
CLOTHES = {
    "blazerAndShirt": "a blazer", "collarAndSweater": "a sweater", "hoodie": "a hoodie",
    "overall": "an overall", "shirtCrewNeck": "a shirt", "shirtVNeck": "a shirt",
}  # fmt: skip
CLOTHES_COLOURS = ["#262e33", "#65c9ff", "#5199e4", "#e6e6e6", "#929598", "#ffafb9", "#ffffff"]
BACKGROUNDS = {
    "#b6e3f4": "blue", "#c0aede": "violet", "#d1d4f9": "lilac", "#ffd5dc": "pink", "#ffdfbf": "peach",
    "#d3e4cd": "green", "#f4f4f4": "white",
}  # fmt: skip


def draw_identity(rng: random.Random) -> dict[str, str]:
    """Draw what stays the same in every picture of a person.

    Returns:
        {"top", "hair_colour", "hat_colour", "skin", "beard", "glasses"} -> variant name or colour.
    """
    return {
        "top": rng.choice(HAIR + HATS),
        "hair_colour": rng.choice(HAIR_COLOURS),
        "hat_colour": rng.choice(HAT_COLOURS),
        "skin": rng.choice(SKINS),
        "beard": rng.choice(BEARDS),
        "glasses": rng.choice(GLASSES),
    }


def draw_identities(n: int, seed: str, taken: set[tuple] = frozenset()) -> list[dict[str, str]]:
    """Draw `n` identities that differ from each other, and from those `taken`, at a glance.

    Two people may share hair or glasses, but never the whole of head, colour of hair or hat, and skin.
    """
    rng, taken, people = random.Random(seed), set(taken), []
    while len(people) < n:
        identity = draw_identity(rng)
        if appearance(identity) not in taken:
            taken.add(appearance(identity))
            people.append(identity)
    return people


def appearance(identity: dict[str, str]) -> tuple[str, str, str]:
    """What one sees at a glance of an identity: head, its colour, skin."""
    colour = "hat_colour" if identity["top"] in HATS else "hair_colour"
    return identity["top"], identity[colour], identity["skin"]


def render(identity: dict[str, str], view: str) -> bytes:
    """Draw a person as seen in one view.

    Args:
        identity: from `draw_identity`.
        view: any string; it seeds all that may change from picture to picture. "canonical" is the
            upright, full portrait.
    Returns:
        PNG bytes, SIZE x SIZE pixels.
    """
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    svg = Avatar(_style(), _options(identity, view)).to_string()
    return bytes(svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True))


def describe_view(identity: dict[str, str], view: str) -> tuple[str, str]:
    """What a person wears in a view, and the colour of the wall behind: ("a hoodie", "blue")."""
    options = _options(identity, view)
    return CLOTHES[options["clothesVariant"][0]], BACKGROUNDS[options["backgroundColor"][0]]


def _options(identity: dict[str, str], view: str) -> dict:
    """DiceBear options of a person in a view."""
    rng = random.Random(f"{json.dumps(identity, sort_keys=True)} {view}")
    options = {
        "seed": "fixed",
        "size": SIZE,
        "topVariant": [identity["top"]],
        "hairColor": [identity["hair_colour"]],
        "hatColor": [identity["hat_colour"]],
        "facialHairColor": [identity["hair_colour"]],
        "skinColor": [identity["skin"]],
        "accessoriesColor": ["#262e33"],
        **_optional("facialHair", identity["beard"]),
        **_optional("accessories", identity["glasses"]),
        "eyesVariant": [rng.choice(EYES)],
        "eyebrowsVariant": [rng.choice(EYEBROWS)],
        "mouthVariant": [rng.choice(MOUTHS)],
        "clothesVariant": [rng.choice(list(CLOTHES))],
        "clothesColor": [rng.choice(CLOTHES_COLOURS)],
        "backgroundColor": [rng.choice(list(BACKGROUNDS))],
    }
    if view != "canonical":
        options |= {
            "flip": rng.choice(["none", "horizontal"]),
            "rotate": rng.uniform(-12, 12),
            "scale": rng.uniform(0.9, 1.15),
            "translateX": rng.uniform(-6, 6),
            "translateY": rng.uniform(-5, 5),
        }
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
