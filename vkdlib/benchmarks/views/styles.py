"""Pictures of a person in other styles: is it the face that is known, or these pixels?

Each style is a pure function of a picture and a text that seeds what it draws by chance. Another style is one
function and one entry of STYLES. Whether a face can still be known in a style is for vanilla to say.
"""

import io
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from vkdlib.benchmarks.pictures import GREY, open_image, to_png
from vkdlib.benchmarks.schema import Person, Split
from vkdlib.system.checks import one_of

Picture = Image.Image
BLOCKS = 16  # pixels along the longer side of a pixelated picture
NOISE = 24  # largest change of a channel, of 255


def drop_colours(image: Picture, seed: str) -> Picture:
    """Without colours."""
    return image.convert("L").convert("RGB")


def find_edges(image: Picture, seed: str) -> Picture:
    """Contours alone, dark on white."""
    contours = ImageOps.invert(image.convert("L").filter(ImageFilter.FIND_EDGES))
    inner = contours.crop((1, 1, image.width - 1, image.height - 1))  # the filter leaves out the rim
    return ImageOps.expand(inner, 1, fill=255).convert("RGB")


def posterise(image: Picture, seed: str) -> Picture:
    """Four shades of each colour."""
    return ImageOps.posterize(image, 2)


def pixelate(image: Picture, seed: str) -> Picture:
    """Few large squares."""
    scale = BLOCKS / max(image.size)
    small = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def blur(image: Picture, seed: str) -> Picture:
    """Out of focus."""
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / 40))


def turn_hues(image: Picture, seed: str) -> Picture:
    """All hues turned by the same third of a circle or two."""
    turn = random.Random(seed).choice((85, 170))  # of 256
    hue, *others = image.convert("HSV").split()
    return Image.merge("HSV", (hue.point(lambda value: (value + turn) % 256), *others)).convert("RGB")


def add_noise(image: Picture, seed: str) -> Picture:
    """Each channel of each pixel up or down by up to NOISE."""
    pixels = np.asarray(image, dtype=int)  # (height, width, 3)
    change = np.random.default_rng(list(seed.encode())).integers(-NOISE, NOISE, pixels.shape, endpoint=True)
    return Image.fromarray((pixels + change).clip(0, 255).astype("uint8"))


def cover_half(image: Picture, seed: str) -> Picture:
    """One half, left, right, upper or lower, is grey."""
    width, height = image.size
    halves = ((0, 0, width // 2, height), (width // 2, 0, width, height))
    halves += ((0, 0, width, height // 2), (0, height // 2, width, height))
    covered = image.copy()
    covered.paste(GREY, random.Random(seed).choice(halves))
    return covered


def jpeg(image: Picture, seed: str) -> Picture:
    """As JPEG of quality 10 leaves it."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=10)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


STYLES: dict[str, Callable[[Picture, str], Picture]] = {
    "grey": drop_colours,
    "edges": find_edges,
    "posterised": posterise,
    "pixelated": pixelate,
    "blurred": blur,
    "hue": turn_hues,
    "noise": add_noise,
    "half covered": cover_half,
    "JPEG 10": jpeg,
}


def restyle(content: bytes, style: str, seed: str = "") -> bytes:
    """A picture in one of STYLES, as a PNG file of the same size.

    Args:
        content: a PNG or JPEG file.
        seed: what the style draws by chance follows from it.
    """
    one_of("style", style, STYLES)
    return to_png(STYLES[style](open_image(content), f"{style} {seed}"))


def restyle_split(split: Split, style: str) -> Split:
    """The same task with every unseen picture in a style; what is trained on stays as it is."""
    one_of("style", style, STYLES)

    def restyled(person: Person) -> Person:
        images = enumerate(person.test_images)
        return replace(person, test_images=tuple(restyle(i, style, f"{person.id} {n}") for n, i in images))

    return replace(
        split, forget=tuple(map(restyled, split.forget)), retain=tuple(map(restyled, split.retain))
    )
