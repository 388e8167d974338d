"""Pictures: kept as the files they are; of large ones, a model's inputs are made whenever they are read."""

import io

BLANK_GREY = (127, 127, 127)


def open_image(content: bytes | None):
    """PIL image of a PNG or JPEG file's bytes; None stays None."""
    from PIL import Image

    return content and Image.open(io.BytesIO(content)).convert("RGB")


def to_png(image) -> bytes:
    """A PIL image as the bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def blank(content: bytes) -> bytes:
    """A grey picture of the size of another."""
    from PIL import Image

    return to_png(Image.new("RGB", open_image(content).size, BLANK_GREY))
