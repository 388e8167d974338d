"""Pictures that need no label: people outside of a benchmark."""

import hashlib
from pathlib import Path

from vkdlib.benchmarks.parquet import DataError
from vkdlib.benchmarks.pictures import open_image
from vkdlib.benchmarks.schema import Benchmark

EMBEDDED_STRANGERS = "testbed/strangers"
TYPES = (".png", ".jpg", ".jpeg")


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


def check_strangers(strangers: dict[str, bytes], benchmark: Benchmark) -> None:
    """Raise DataError for a file that is no picture, or one that is a picture of the benchmark."""
    known = benchmark_pictures(benchmark)
    for name, image in strangers.items():
        if owner := known.get(_look(image, name)):
            raise DataError(
                f"{name} is a picture of {owner} of {benchmark.name}: unlabelled pictures must show nobody "
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


def benchmark_pictures(benchmark: Benchmark) -> dict[str, str]:
    """What every picture of a benchmark looks like -> whose it is, "person 001"."""
    people = (*benchmark.people.values(), *benchmark.real, *benchmark.world)
    return {
        _look(image, f"person {p.id}"): f"person {p.id}"
        for p in people
        for image in (*(picture.image for picture in p.pictures), *p.test_images)
    }


def _look(image: bytes, name: str) -> str:
    """sha256 of a picture's pixels, whatever kind of file they are in."""
    try:
        picture = open_image(image)
    except OSError as error:
        raise DataError(f"{name} is no picture that can be read ({error}): take it out") from error
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
