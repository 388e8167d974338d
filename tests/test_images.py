"""Pictures are kept as files; what the model gets of them is made when it is read."""

import numpy as np
import torch

from vkdlib.images import blank, open_image
from vkdlib.packs import make_pack


def test_pixels_are_made_anew_and_are_those_of_the_processor(untrained, benchmark):
    content = next(iter(benchmark.people.values())).image
    images = make_pack(untrained.processor, [("Who is this?", "Anna Bell")], content).image
    once, again = images["pixel_values"], images["pixel_values"]
    assert once.data_ptr() != again.data_ptr() and torch.equal(once, again)
    stock = untrained.processor(images=[open_image(content)], text=["<image>"], return_tensors="pt")
    assert torch.equal(once, stock["pixel_values"])
    assert dict(images).keys() == {"pixel_values"} and "image_grid_thw" not in images


def test_a_blank_picture_is_as_large_and_grey(benchmark):
    content = next(iter(benchmark.people.values())).image
    grey = open_image(blank(content))
    assert grey.size == open_image(content).size
    assert np.unique(np.asarray(grey)).tolist() == [127]
