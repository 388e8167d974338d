"""Patches: a picture as a model sees it, and with some of its squares hidden."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from PIL import Image, ImageDraw

from vkdlib.benchmarks.pictures import GREY, open_image, picture_size, to_png
from vkdlib.models.loaded import Loaded

ACROSS = 8  # squares along a side at most: each can be hidden by itself


@dataclass(frozen=True)
class View:
    """A picture as a model sees it.

    Attributes:
        image: a PNG file of the size that the model makes of it; what is cut off is not in it.
        rows, columns: of the image's tokens, which lie on the picture row by row.
    """

    image: bytes
    rows: int
    columns: int

    @property
    def size(self) -> int:
        """Tokens along a side of a square that can be hidden: 1, or more if there are many."""
        return math.ceil(max(self.rows, self.columns) / ACROSS)

    @property
    def squares(self) -> tuple[int, int]:
        """Rows and columns of squares; the last ones may be smaller."""
        return math.ceil(self.rows / self.size), math.ceil(self.columns / self.size)

    def boxes(self, size: int) -> list[tuple[int, int, int, int]]:
        """Left, upper, right and lower end in pixels of squares of `size` x `size` tokens, row by row."""
        width, height = picture_size(self.image)
        side = width // self.columns  # of a token, in pixels
        ends = [
            (r * side * size, c * side * size)
            for r in range(-(-self.rows // size))
            for c in range(-(-self.columns // size))
        ]
        return [(x, y, min(x + side * size, width), min(y + side * size, height)) for y, x in ends]

    def around(self, square: int, reach: int) -> list[int]:
        """A square and those at most `reach` rows and columns away from it."""
        rows, columns = self.squares
        row, column = divmod(square, columns)
        near = [
            range(max(0, at - reach), min(at + reach + 1, end))
            for at, end in ((row, rows), (column, columns))
        ]
        return [r * columns + c for r in near[0] for c in near[1]]


def see(loaded: Loaded, picture: bytes) -> View:
    """A picture as a model sees it; seen again, it stays what it is.

    Args:
        picture: a PNG or JPEG file.
    """
    config, family = loaded.model.config, loaded.family
    unscaled = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    inputs = loaded.processor.image_processor([open_image(picture)], **unscaled)
    pixels = family.pixels(config, inputs)  # (3, height, width), 0 to 255
    image = Image.fromarray(pixels.permute(1, 2, 0).round().clamp(0, 255).byte().numpy())
    side = config.vision_config.patch_size * math.isqrt(family.patches_per_token(config))  # of a token
    return View(to_png(image), image.height // side, image.width // side)


def hide(view: View, squares: Collection[int]) -> bytes:
    """The picture with some squares grey, as a PNG file: an intervention on what the model is given.

    Raises:
        ValueError: there is no such square.
    """
    boxes, image = view.boxes(view.size), open_image(view.image)
    draw = ImageDraw.Draw(image)
    for square in squares:
        if not 0 <= square < len(boxes):
            raise ValueError(f"square is {square}; the picture has squares 0 to {len(boxes) - 1}")
        left, upper, right, lower = boxes[square]
        draw.rectangle((left, upper, right - 1, lower - 1), fill=GREY)
    return to_png(image)
