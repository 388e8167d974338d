"""A model's inputs for a picture; those of large pictures are made again each time they are read."""

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

PIXELS = "pixel_values"  # the only input of an image that may be large
SMALL = 1 << 20  # bytes of pixels that are kept: thousands of such pictures fit into memory


class ImageInputs(Mapping[str, Tensor]):
    """What a processor makes of one picture, batch dimension first.

    Pixels of more than SMALL bytes are made anew each time: a benchmark's pictures fit into memory as files,
    but a portrait of 1024 pixels takes 25 MB as Qwen's input.

    Args:
        make: processes the picture.
        inputs: what it returned when it was called before.
    """

    def __init__(self, make: Callable[[], Mapping[str, Tensor]], inputs: Mapping[str, Tensor]):
        self._make = make
        self._inputs = {n: None if n == PIXELS and t.nbytes > SMALL else t for n, t in inputs.items()}

    def __getitem__(self, name: str) -> Tensor:
        value = self._inputs[name]
        return self._make()[name] if value is None else value

    def __contains__(self, name: object) -> bool:
        return name in self._inputs

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)
