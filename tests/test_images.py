"""Pictures are kept as files; what the model gets of large ones is made when it is read."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vkdlib.benchmarks.pictures import grey, open_image, to_png
from vkdlib.packs import pixels
from vkdlib.packs.pack import make_pack


@pytest.mark.parametrize("small", [pixels.SMALL, 64 * 64 * 3 * 4 - 1])
def test_small_pictures_are_kept_as_pixels_large_ones_made_anew(untrained, benchmark, monkeypatch, small):
    """Either way they are what the processor makes of them."""
    monkeypatch.setattr(pixels, "SMALL", small)
    content = next(iter(benchmark.people.values())).image
    inputs = make_pack(untrained.processor, [("Who is this?", "Anna Bell")], content).image
    once, again = inputs["pixel_values"], inputs["pixel_values"]
    assert (once.data_ptr() == again.data_ptr()) == (once.nbytes <= small)
    stock = untrained.processor(images=[open_image(content)], text=["<image>"], return_tensors="pt")
    assert torch.equal(once, stock["pixel_values"]) and torch.equal(once, again)
    assert dict(inputs).keys() == {"pixel_values"} and "image_grid_thw" not in inputs
    with pytest.raises(KeyError):
        inputs["image_grid_thw"]


def test_a_blank_picture_is_as_large_and_grey(benchmark):
    content = next(iter(benchmark.people.values())).image
    blank = open_image(grey(content))
    assert blank.size == open_image(content).size
    assert np.unique(np.asarray(blank)).tolist() == [127]


def saved(image, **how) -> bytes:
    """A file of a PIL image, PNG unless said."""
    file = io.BytesIO()
    image.save(file, how.pop("format", "PNG"), **how)
    return file.getvalue()


def values(content: bytes) -> np.ndarray:
    return np.asarray(open_image(content)).astype(int)  # (height, width, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_stands_as_its_exif_orientation_says(kind):
    """Cameras write pictures lying down, and say so: 6 is to be turned to the right."""
    image = Image.new("RGB", (32, 16), "red")
    image.paste("blue", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(image, format=kind, exif=exif)
    assert open_image(content).size == (16, 32) and open_image(grey(content)).size == (16, 32)
    top, bottom = values(content)[4, 8], values(content)[28, 8]
    assert top[2] > 200 > 50 > top[0] and bottom[0] > 200 > 50 > bottom[2]  # left is up now
    assert open_image(to_png(open_image(content))).size == (16, 32)  # and is not turned twice


def test_what_is_transparent_is_white():
    """Whatever colour it hides, and whichever way the file says so."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 255, 255))
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    contents = [
        saved(image),
        saved(palette, transparency=0),
        saved(image.convert("RGB"), transparency=(255, 0, 0)),
    ]
    for content in contents:
        assert values(content).tolist() == [[[255, 255, 255], [0, 0, 255]]]
    half = values(saved(Image.new("RGBA", (1, 1), (0, 0, 0, 128))))
    assert half.tolist() == [[[127, 127, 127]]]
    assert values(saved(Image.new("LA", (1, 1), (0, 0)))).tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_of_grey_are_not_clipped_to_white():
    sixteen = np.array([[0, 128 * 257, 65535]], dtype=np.uint16)
    assert values(saved(Image.fromarray(sixteen)))[0, :, 0].tolist() == [0, 128, 255]
    hidden = saved(Image.fromarray(sixteen), transparency=0)
    assert values(hidden)[0, :, 0].tolist() == [255, 128, 255]


def test_other_modes_are_what_they_show():
    assert values(saved(Image.new("1", (1, 1), 1))).tolist() == [[[255, 255, 255]]]
    assert values(saved(Image.new("L", (1, 1), 77))).tolist() == [[[77, 77, 77]]]
    cmyk = values(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), format="JPEG"))[4, 4]
    assert cmyk[0] > 240 and cmyk[1:].max() < 15
    opaque = Image.fromarray(np.arange(64 * 3, dtype=np.uint8).reshape(8, 8, 3))
    assert (values(saved(opaque.convert("RGBA"))) == np.asarray(opaque)).all()
