"""Pictures that need no label: people outside of a benchmark."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from vkdlib.benchmarks.parquet import DataError
from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.schema import Person

EMBEDDED_STRANGERS = "testbed/strangers"
TYPES = (".png", ".jpg", ".jpeg")
SIDE = 16  # pixels of a thumbnail
# Grey levels that thumbnails of two pictures differ by at least, on average. A picture saved again as JPEG
# (quality 50) or in another size is at most 1.2 from itself (40 of made-up MLLMU-Bench's 840); the embedded
# strangers are 5.8 or more from all 840.
NEAR = 2.0


def read_strangers(source: str) -> dict[str, bytes]:
    """Pictures of a folder, or those of the embedded benchmarks: name -> file, in the order of the names.

    Args:
        source: EMBEDDED_STRANGERS, or a folder of PNG and JPEG files.
    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if source == EMBEDDED_STRANGERS:
        from vkdlib.benchmarks.made_up.authors import make_strangers

        return {f"{source}, picture {n}": image for n, image in enumerate(make_strangers())}
    return _pictures_in(Path(source))


def check_strangers(strangers: Mapping[str, bytes], people: Iterable[Person]) -> None:
    """Raise DataError for a file that is no picture, or one that is a picture of one of the people: the same,
    or saved again, in another size or without colours. Another picture of a person, or a part of one, it
    cannot know.

    Args:
        people: all of the benchmark.
    """
    known = [
        (f"person {p.id}", image)
        for p in people
        for image in (*(picture.image for picture in p.pictures), *p.test_images)
    ]
    if not strangers or not known:
        return
    looks = np.stack([_thumbnail(image, owner) for owner, image in known])  # (pictures, numbers)
    for name, image in strangers.items():
        distance = np.abs(looks - _thumbnail(image, name)).mean(1)  # (pictures,)
        if distance.min() < NEAR:
            raise DataError(
                f"{name} is a picture of {known[distance.argmin()][0]}: unlabelled pictures must show nobody "
                "of the benchmark, so take it out"
            )


def strangers_hash(strangers: dict[str, bytes]) -> str:
    """sha256 of the pictures' files, in their order."""
    digests = (hashlib.sha256(image).digest() for image in strangers.values())
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _pictures_in(folder: Path) -> dict[str, bytes]:
    """Path of each picture in a folder -> its file."""
    if not folder.is_dir():
        raise DataError(
            f"strangers is {str(folder)!r}; there is no such folder, nor is it {EMBEDDED_STRANGERS}"
        )
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in TYPES]
    if not files:
        raise DataError(f"{folder} holds no picture ({', '.join(TYPES)}): put unlabelled pictures there")
    return {str(file): file.read_bytes() for file in files}


def _thumbnail(image: bytes, name: str) -> np.ndarray:
    """A small grey copy of a picture, 0 to 255, whatever kind of file and size it has: (SIDE * SIDE,)."""
    try:
        picture = open_image(image)
    except OSError as error:
        raise DataError(f"{name} is no picture that can be read ({error}): take it out") from error
    small = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype="float32").ravel()
