"""Perturbed pictures (VGID paper, §3.3 and A.3.3): noise on a picture, or noise or white in its place.

They act on the file, before a model's processor, and leave the picture's size as it is: every processor
takes them, and makes as many tokens of them. What a processor shrinks later, it smooths: where 1024 pixels
become 336 (LLaVA-1.5, bicubic), noise keeps 27 % of its standard deviation.
"""

import functools
import hashlib

from vkdlib.benchmarks.pictures import open_image, to_png
from vkdlib.system.checks import number, one_of

PERTURBATIONS = ("noise", "gaussian", "white")


@functools.lru_cache(maxsize=32)  # for the questions about a picture, which come one after the other
def perturb(content: bytes, kind: str, name: str = "", sigma: float | None = None, label: str = "") -> bytes:
    """A perturbed picture, as a PNG file of the same size.

    Args:
        content: a PNG or JPEG file.
        kind: "noise": every channel of every pixel is drawn uniformly from 0 to 255, whatever was there.
            "gaussian": noise is added, see `add_gaussian`. "white".
        name: whose it is, and when: the noise follows from it and the content.
        sigma: standard deviation of "gaussian", in pixels from 0 to 1.
        label: what an error calls whose picture it is, as "person '001'".
    Raises:
        ValueError: a kind that is not known, a sigma below 0 or without use, or a picture of no size.
    """
    import numpy as np
    from PIL import Image

    check_perturbation(kind, sigma)
    pixels = np.asarray(open_image(content))  # (height, width, 3), 0 to 255
    if not pixels.size:
        size = "{1} x {0}".format(*pixels.shape)
        raise ValueError(f"the picture of {label or 'nobody'} has no size ({size} pixels): leave it out")
    digest = hashlib.sha256(name.encode() + b"\n" + content).digest()
    rng = np.random.default_rng(list(digest))
    if kind == "gaussian":
        perturbed = add_gaussian(pixels, sigma, rng)
    else:
        perturbed = uniform_noise(pixels, rng) if kind == "noise" else white(pixels)
    return to_png(Image.fromarray(perturbed))


def check_perturbation(kind: str, sigma: float | None) -> None:
    """Raise ValueError for a kind that is not known, and unless "gaussian", and nothing else, has a sigma."""
    one_of("perturbation", kind, PERTURBATIONS)
    if kind == "gaussian":
        number("sigma", sigma, 0)
    elif sigma is not None:
        raise ValueError(f"sigma is {sigma!r}, and perturbation is {kind!r}: leave one of them out")


def uniform_noise(pixels, rng):
    """Noise in place of pixels (height, width, 3), uniform over their range."""
    return rng.integers(0, 256, pixels.shape, "uint8")  # (height, width, 3)


def add_gaussian(pixels, sigma: float, rng):
    """Pixels (height, width, 3) with noise of a standard deviation, in units of their range; clipped."""
    noisy = pixels / 255 + sigma * rng.standard_normal(pixels.shape)  # (height, width, 3)
    return (noisy.clip(0, 1) * 255).round().astype("uint8")


def white(pixels):
    """White in place of pixels (height, width, 3)."""
    return pixels * 0 + pixels.dtype.type(255)  # (height, width, 3)
