"""Perturbed pictures: their law, their size, and that they are the same again."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from vkdlib.benchmarks.pictures import open_image, to_png
from vkdlib.benchmarks.views import perturb as perturbing
from vkdlib.benchmarks.views.perturb import PERTURBATIONS, perturb
from vkdlib.packs.pack import make_pack
from vkdlib.testbed.build import make_processor

GREY = to_png(Image.new("RGB", (120, 90), (128, 128, 128)))
KINDS = {"noise": None, "gaussian": 0.4, "white": None}  # kind -> its sigma


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(open_image(content)).astype(float) / 255  # (height, width, 3)


def test_random_noise_is_uniform_over_the_range_and_independent_of_the_picture(benchmark):
    """Moments of U(0, 1), every value equally often, no correlation between channels, neighbours or with the
    picture."""
    portrait = next(iter(benchmark.people.values())).image
    found = pixels(perturb(portrait, "noise", "001/0 0"))
    n = found.size
    assert found.mean() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / n))
    assert found.var() == pytest.approx((256**2 - 1) / 12 / 255**2, rel=0.05)
    counts = np.bincount((found * 255).round().astype(int).ravel(), minlength=256)
    squares = ((counts - n / 256) ** 2 / (n / 256)).sum()  # chi squared, 255 degrees of freedom
    assert 160 < squares < 370
    pairs = [(found[..., 0], found[..., 1]), (found[:, 1:], found[:, :-1]), (found, pixels(portrait))]
    for a, b in pairs:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / math.sqrt(a.size)


@pytest.mark.parametrize("sigma", [0.05, 0.1])
def test_gaussian_noise_has_its_deviation(sigma):
    noise = pixels(perturb(GREY, "gaussian", "001/0 0", sigma)) - 128 / 255
    assert noise.std() == pytest.approx(sigma, rel=0.03) and abs(noise.mean()) < 0.01
    within = (np.abs(noise) < sigma).mean()
    assert within == pytest.approx(0.683, abs=0.02)  # of a normal distribution


def test_gaussian_noise_is_clipped_and_none_of_sigma_0(benchmark):
    """Of σ = 2 on mid-grey Φ(-1/4) is at either end."""
    end = (1 + math.erf(-0.25 / math.sqrt(2))) / 2
    found = pixels(perturb(GREY, "gaussian", "a", 2.0))
    assert (found == 0).mean() == pytest.approx(end, abs=0.02)
    assert (found == 1).mean() == pytest.approx(end, abs=0.02)
    portrait = next(iter(benchmark.people.values())).image
    assert (pixels(perturb(portrait, "gaussian", "a", 0.0)) == pixels(portrait)).all()
    assert (pixels(perturb(portrait, "white")) == 1).all()


def test_noise_follows_from_name_and_picture_alone():
    other = to_png(Image.new("RGB", (120, 90), (1, 2, 3)))
    for kind, sigma in KINDS.items():
        once = perturb(GREY, kind, "0 001/0 7", sigma)
        perturb.cache_clear()
        assert perturb(GREY, kind, "0 001/0 7", sigma) == once
        for again in (perturb(GREY, kind, "0 001/0 8", sigma), perturb(other, kind, "0 001/0 7", sigma)):
            assert (again != once) == (kind != "white")


@pytest.mark.parametrize("family", ["llava", "qwen2-vl", "qwen2.5-vl"])
@pytest.mark.parametrize("size", [(64, 64), (96, 48), (32, 112)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_processor_makes_as_many_tokens_of_it(family, size, kind):
    """Tokens, grid and positions are those of the picture itself; pixels are others."""
    processor, picture = make_processor(family), to_png(Image.new("RGB", size, "red"))
    changed = perturb(picture, kind, "a", KINDS[kind])
    assert open_image(changed).size == size
    one, two = (make_pack(processor, [("Who?", "Anna")], content) for content in (picture, changed))
    assert (one.prefix, one.positions, one.segments) == (two.prefix, two.positions, two.segments)
    assert one.image.keys() == two.image.keys()
    for name in one.image:
        same = torch.equal(one.image[name], two.image[name])
        assert one.image[name].shape == two.image[name].shape and same == (name != "pixel_values")


@pytest.mark.parametrize(
    "kind, sigma, message",
    [
        ("nois", None, "perturbation is 'nois'; it must be one of noise, gaussian, white .did you mean"),
        ("gaussian", None, "sigma is None; it must be a number 0 or more"),
        ("gaussian", -0.1, "sigma is -0.1; it must be a number 0 or more"),
        ("gaussian", math.nan, "sigma is nan; it must be a number 0 or more, and finite"),
        ("gaussian", math.inf, "sigma is inf; it must be a number 0 or more, and finite"),
        ("noise", 0.4, "sigma is 0.4, and perturbation is 'noise': leave one of them out"),
        ("white", 0.0, "sigma is 0.0, and perturbation is 'white': leave one of them out"),
    ],
)
def test_wrong_values_are_refused(kind, sigma, message):
    with pytest.raises(ValueError, match=message):
        perturb(GREY, kind, "", sigma)


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_a_picture_of_no_size_is_refused(kind, monkeypatch):
    monkeypatch.setattr(perturbing, "open_image", lambda _: Image.new("RGB", (4, 0)))
    with pytest.raises(ValueError, match=r"the picture of person '001' has no size \(4 x 0 pixels\)"):
        perturb(b"nothing", kind, "0 001/0", KINDS[kind], "person '001'")
