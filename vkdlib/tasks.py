"""The four data sets of Eq. 2, as packs: people to forget and to retain, with their pictures and by name."""

import functools
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vkdlib.benchmarks.pictures import alter, grey
from vkdlib.benchmarks.schema import Person, Split
from vkdlib.benchmarks.strangers import check_strangers
from vkdlib.models.loaded import Loaded
from vkdlib.packs.pack import Pack, make_pack, picture_pack
from vkdlib.system.checks import number, one_of


@dataclass(frozen=True, repr=False)
class Tasks:
    """D_vqa^f, D_vqa^r, D_qa^f and D_qa^r of Eq. 2. One pack a picture; in text, one a person.

    Attributes:
        unlabelled: pictures of people outside of the benchmark, without questions (ours, beyond the paper).
    """

    forget_vqa: tuple[Pack, ...]
    retain_vqa: tuple[Pack, ...]
    forget_qa: tuple[Pack, ...]
    retain_qa: tuple[Pack, ...]
    unlabelled: tuple[Pack, ...] = ()

    def __repr__(self) -> str:
        return f"<Tasks of packs: {', '.join(f'{name} {len(packs)}' for name, packs in vars(self).items())}>"

    def batch(self, step: int, size: int, seed: int, retain_size: int | None = None) -> "Tasks":
        """At most `size` packs of each forget set and `retain_size` (None: `size`) of each other set.

        Each set is read in an order that is drawn anew for every round, whose number the packs get. The order
        follows from seed and step alone, so a resumed run sees the same batches.
        """
        sizes = {name: size if name.startswith("forget") else retain_size or size for name in vars(self)}
        sets = vars(self).items()
        return Tasks(*(window(packs, step, sizes[name], f"{seed} {name}") for name, packs in sets))

    def share(self, process: int, count: int) -> "Tasks":
        """What a process of several takes: every `count`-th pack of each set."""
        return Tasks(*(packs[process::count] for packs in vars(self).values()))

    def other_people(self, seed: int) -> "Tasks":
        """The same with retain people, as many and drawn at random, in the place of those to forget, who take
        no part.

        Raises:
            ValueError: no retain people would be left.
        """
        forget, retain = (list(dict.fromkeys(map(person_of, s))) for s in (self.forget_vqa, self.retain_vqa))
        if len(forget) >= len(retain):
            raise ValueError(
                f"there are {len(retain)} retain people: {len(forget)} cannot take the place of those "
                "to forget"
            )
        drawn = set(random.Random(f"{seed} other people").sample(retain, len(forget)))
        sides = (True, False)
        vqa = [tuple(p for p in self.retain_vqa if (person_of(p) in drawn) == side) for side in sides]
        qa = [tuple(p for p in self.retain_qa if (p.key in drawn) == side) for side in sides]
        return Tasks(*vqa, *qa, self.unlabelled)

    def parts(self, size: int | None) -> Iterator["Tasks"]:
        """Cut into parts of at most `size` packs of each set (None: one part). A short set ends before the
        others."""
        longest = max(1, *(len(packs) for packs in vars(self).values()))
        size = longest if size is None else size
        number("micro_batch", size, 1, whole=True)
        for start in range(0, longest, size):
            yield Tasks(*(packs[start : start + size] for packs in vars(self).values()))


@dataclass(frozen=True)
class Steps:
    """What a method's preparation has to know of the steps that follow.

    Attributes:
        batch_size: packs of each forget set in a step.
        micro_batch: packs on the device at a time; None: `batch_size`. It changes no result but by rounding.
        retain_keys: keys of the retain and unlabelled pictures that any step shows to this process; None:
            all.
        seed: of the run; whatever a preparation draws by chance follows from it.
        forget_packs: the forget pictures as the steps show them to this process, with their rounds; None:
            each of them once.
        teacher: the model that the student is to agree with; None: itself, as it is at the start.
    """

    batch_size: int = 4
    micro_batch: int | None = None
    retain_keys: Collection[str] | None = None
    seed: int = 0
    forget_packs: Sequence[Pack] | None = None
    teacher: Loaded | None = None

    @property
    def at_once(self) -> int:
        """Packs on the device at a time."""
        return self.micro_batch or self.batch_size


def make_tasks(
    loaded: Loaded,
    split: Split,
    qa_image: str | None = None,
    views: int = 1,
    unlabelled: Sequence[bytes] = (),
) -> Tasks:
    """Tokenise the training questions of forget and retain people.

    Args:
        qa_image: what a question in text (QA) comes with. None: nothing, as the task is defined.
            "blank": a grey picture, so that the QA terms of Eq. 5, 7 and 10 reach the visual module.
        views: of each forget picture, one after the other in each round: the picture as it is and altered
            ones.
        unlabelled: pictures of people outside of the benchmark (`strangers.read_strangers`).
    Raises:
        ValueError: a person without training pairs, an unknown `qa_image`, views below 1, or an unlabelled
            picture of one of the people.
    """
    one_of("qa_image", qa_image, (None, "blank"))
    number("views", views, 1, whole=True)
    named = {f"unlabelled picture {n}": image for n, image in enumerate(unlabelled)}
    check_strangers(named, (*split.forget, *split.retain, *split.real, *split.world))
    forget, retain = (picture_packs(loaded, people) for people in (split.forget, split.retain))
    texts = [text_packs(loaded, people, qa_image) for people in (split.forget, split.retain)]
    strangers = (picture_pack(loaded.processor, i, f"unlabelled {n}") for n, i in enumerate(unlabelled))
    return Tasks(add_views(loaded, split.forget, forget, views), retain, *texts, tuple(strangers))


def add_views(
    loaded: Loaded, people: Iterable[Person], packs: Sequence[Pack], views: int
) -> tuple[Pack, ...]:
    """Packs of people's pictures with so many views of each, the picture as it is among them."""
    images = {f"{p.id}/{place}": i.image for p in people for place, i in enumerate(p.pictures)}

    def view(key: str, number: int) -> Mapping[str, Tensor]:
        return picture_pack(loaded.processor, alter(images[key], f"{key} {number}"), key).image

    return tuple(replace(p, views=tuple(view(p.key, n) for n in range(1, views))) for p in packs)


def person_of(pack: Pack) -> str:
    """Id of the person in a pack's picture."""
    return pack.key.rpartition("/")[0]


def label_of(pack: Pack) -> str:
    """What errors call a picture's pack."""
    person, _, number = pack.key.rpartition("/")
    return f"person {person!r}, picture {number}" if person else f"person {pack.key!r}"


def picture_packs(loaded: Loaded, people: Iterable[Person]) -> tuple[Pack, ...]:
    """A pack for each picture with training pairs. A person without any such picture is an error."""
    packs = []
    for p in people:
        pictures = [(place, picture) for place, picture in enumerate(p.pictures) if picture.pairs]
        if not pictures:
            raise ValueError(f"person {p.id!r} has no picture with training questions")
        packs += [make_pack(loaded.processor, i.pairs, i.image, p.id, place) for place, i in pictures]
    return tuple(packs)


def text_packs(loaded: Loaded, people: Iterable[Person], qa_image: str | None = None) -> tuple[Pack, ...]:
    """A pack for each person with training pairs in text."""
    return tuple(
        make_pack(loaded.processor, p.text_pairs, qa_image and grey(p.image), p.id)
        for p in people
        if p.text_pairs
    )


def window(packs: Sequence[Pack], step: int, size: int, seed: str) -> tuple[Pack, ...]:
    """The packs of a step: `size` further along an endless walk, reshuffled after each round. Each round
    shows another view of each picture."""
    size = min(size, len(packs))
    places = [divmod(position, len(packs)) for position in range(step * size, (step + 1) * size)]
    return tuple(
        replace(packs[_order(len(packs), f"{seed} {turn}")[place]].view(turn), round=turn)
        for turn, place in places
    )


@functools.lru_cache(maxsize=64)
def _order(size: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(size), size)
