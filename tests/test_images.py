"""Pictures are kept as files; what the model gets of large ones is made when it is read."""

import numpy as np
import pytest
import torch

from vkdlib.benchmarks.pictures import blank, open_image
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
    grey = open_image(blank(content))
    assert grey.size == open_image(content).size
    assert np.unique(np.asarray(grey)).tolist() == [127]
