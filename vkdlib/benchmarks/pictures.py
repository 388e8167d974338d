"""Open pictures, which benchmarks keep as files, and make new ones."""

import io

GREY = (127, 127, 127)


def open_image(content: bytes | None):
    """PIL image of a PNG or JPEG file's bytes, as it is meant to be seen; None stays None.

    It is turned as its EXIF orientation says. Transparent pixels come on white, whatever colour they hide.
    16 bits of grey become 8, where Pillow alone would make all but the darkest pixels white.
    """
    from PIL import Image, ImageOps

    if content is None:
        return None
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
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


def grey(content: bytes) -> bytes:
    """A grey picture of the size of another."""
    from PIL import Image

    return to_png(Image.new("RGB", open_image(content).size, GREY))
