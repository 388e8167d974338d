"""Open pictures, which benchmarks keep as files, and make new ones."""

import base64
import html
import io
import math
import random
from collections.abc import Mapping, Sequence

GREY = (127, 127, 127)
FACES, SMALL = 8, 48  # people that a group shows, in pictures of so many pixels


def open_image(content: bytes | None):
    """PIL image of a PNG or JPEG file's bytes, as it is meant to be seen (`upright`); None stays None."""
    from PIL import Image

    return None if content is None else upright(Image.open(io.BytesIO(content)))


def upright(image):
    """A PIL image as it is meant to be seen, in RGB; one that is so stays what it is.

    It is turned as its EXIF orientation says. Transparent pixels come on white, whatever colour they hide.
    16 bits of grey become 8, where Pillow alone would make all but the darkest pixels white.
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bits(image):
    """8 bits of grey from 16; the value that a file calls transparent becomes white."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(int)  # (height, width), 0 to 65535
    values[values == image.info.get("transparency")] = 65535
    return Image.fromarray((values / 257).round().astype("uint8"))


def picture_size(content: bytes) -> tuple[int, int]:
    """Sides in pixels as the file has them: before an EXIF orientation turns it, and without decoding it."""
    from PIL import Image

    return Image.open(io.BytesIO(content)).size


def to_png(image) -> bytes:
    """A PIL image as the bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def square(content: bytes, side: int) -> bytes:
    """The whole picture in the middle of a square of `side` pixels; what it leaves free has the colour of its
    upper left corner."""
    from PIL import Image, ImageOps

    image = open_image(content)
    free = image.getpixel((0, 0))
    return to_png(ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, color=free))


def grey(content: bytes) -> bytes:
    """A grey picture of the size of another."""
    from PIL import Image

    return to_png(Image.new("RGB", open_image(content).size, GREY))


def faces_html(title: str, groups: Mapping[str, Sequence]) -> str:
    """The first few people of each group in small pictures, with the size of the group.

    Args:
        groups: name -> people, who have a portrait `image` and a `name`.
    """
    lines = [f"<b>{html.escape(title)}</b>"]
    for group, people in groups.items():
        faces = "".join(_thumbnail(person) for person in people[:FACES])
        more = f" … {len(people) - FACES} more" if len(people) > FACES else ""
        lines.append(f"<div>{html.escape(group)} ({len(people)}): {faces}{more}</div>")
    return "\n".join(lines)


def _thumbnail(person) -> str:
    image = open_image(person.image)
    image.thumbnail((SMALL, SMALL))
    content, name = base64.b64encode(to_png(image)).decode(), html.escape(person.name, quote=True)
    style = "display:inline;margin:1px;vertical-align:middle"
    return f'<img src="data:image/png;base64,{content}" alt="{name}" title="{name}" style="{style}">'


def alter(content: bytes, seed: str) -> bytes:
    """A picture flipped or not, and a little turned, shifted and scaled; the same seed alters it alike.

    Ours. Ranges are about those in which pictures of one person differ. What comes in from outside has the
    colour of the upper left corner.
    """
    from PIL import Image, ImageOps

    rng, image = random.Random(seed), open_image(content)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    (width, height), angle = image.size, math.radians(rng.uniform(-12, 12))
    scale, right, down = rng.uniform(0.9, 1.15), rng.uniform(-0.09, 0.09), rng.uniform(-0.08, 0.08)
    across, along = math.cos(angle) / scale, math.sin(angle) / scale
    x, y = width * (0.5 + right), height * (0.5 + down)  # where the middle comes to lie
    where = (across, along, width / 2 - across * x - along * y)
    where += (-along, across, height / 2 + along * x - across * y)
    corner = image.getpixel((0, 0))
    return to_png(
        image.transform(
            image.size, Image.Transform.AFFINE, where, Image.Resampling.BILINEAR, fillcolor=corner
        )
    )
