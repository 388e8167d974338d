"""What every method is: a record of its settings that says what it trains, prepares, computes and costs.

A new method is one file with a subclass of `Method`, and one line in `methods.METHODS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vkdlib.masking import Weights
from vkdlib.models.adapters import lora_parameters
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import dead_parameters, visual_parameters
from vkdlib.models.passes import batch_nll
from vkdlib.system.checks import check_fields, one_of
from vkdlib.tasks import Steps, Tasks

TRAINED = ("visual", "all", "lora")
ORIGINS = ("paper", "official code", "our reading")

Terms = tuple[Tensor, dict[str, Tensor]]  # a scalar to minimise, and its parts by name


@dataclass(frozen=True)
class Prepared:
    """What a method prepares before its first step.

    Attributes:
        mask: m of Eq. 5, name -> bool; None lets every weight forget.
        held: entries that must not move at all, name -> bool.
        teacher: what the loss terms compare the model with; the method chooses its keys.
        report: numbers for the user (neurons pruned, density of the mask).
        finish: called after the last step; it returns further numbers for the report.
    """

    mask: Weights | None = None
    held: Weights = field(default_factory=dict)
    teacher: dict = field(default_factory=dict)
    report: dict[str, float] = field(default_factory=dict)
    finish: Callable[[], dict[str, float]] | None = None


@dataclass(frozen=True)
class TaskSize:
    """How much there is to train on.

    Attributes:
        forget_pictures, retain_pictures: numbers of pictures.
        questions: about all pictures together.
        steps: of training; 0 for a method that does not train.
        batch_size, retain_batch: pictures to forget and to retain in a step.
        image_tokens, question_tokens: tokens of a picture, and of a question with its answer.
        unlabelled_pictures: of people outside of the benchmark; as many of them as of retain pictures come in
            a step.
    """

    forget_pictures: int
    retain_pictures: int
    questions: int
    steps: int
    batch_size: int
    retain_batch: int
    image_tokens: int
    question_tokens: int
    unlabelled_pictures: int = 0

    @property
    def pictures(self) -> int:
        return self.forget_pictures + self.retain_pictures

    @property
    def drawn(self) -> int:
        """Retain pictures that any step takes."""
        return min(self.retain_pictures, self.steps * self.retain_batch)

    @property
    def drawn_unlabelled(self) -> int:
        """Unlabelled pictures that any step takes."""
        return min(self.unlabelled_pictures, self.steps * self.retain_batch)

    @property
    def pack_tokens(self) -> float:
        """Tokens of a picture with its questions, on average."""
        return self.image_tokens + self.questions / self.pictures * self.question_tokens


class Pass(NamedTuple):
    """Pictures that go through the model for one purpose.

    Attributes:
        pictures: how many.
        tokens: of each, with its questions; those of the picture alone where it passes the visual module
            alone.
        backward: whether a backward pass follows, which reaches what the method trains.
    """

    pictures: int
    tokens: float
    backward: bool = False


@dataclass(frozen=True)
class Cost:
    """What a method takes beside weights, gradients and AdamW's moments.

    Questions in text are not counted. Only methods that train the language model ask any.

    Attributes:
        passes: purpose -> what goes through the model before the first step.
        epoch: set -> what goes through it in an epoch, in which every forget and every retain picture comes
            once.
        masked: parameters with a mask (bool) of the forget term's gradient.
        held: parameters with entries that `masking.Hold` holds: it keeps a mask and a copy.
        copied: parameters of which another copy is kept.
        features: numbers kept beside the device for each retain picture that a process sees.
        forget_features: numbers kept beside the device for all forget pictures together.
    """

    passes: dict[str, Pass] = field(default_factory=dict)
    epoch: dict[str, Pass] = field(default_factory=dict)
    masked: Sequence[nn.Parameter] = ()
    held: Sequence[nn.Parameter] = ()
    copied: Sequence[nn.Parameter] = ()
    features: int = 0
    forget_features: int = 0


class Method:
    """A method; a subclass is a frozen dataclass of its settings, and its docstring begins with its loss.

    Attributes:
        origin: where the equations come from, one of ORIGINS.
        ascends: whether it raises the loss of the forget people's answers, as "forget_vqa" of its history.
        trains: False if all is done in `prepare`: then no step is taken, and there are no loss terms.
        reference: name of another model that it compares with; "vanilla" is the model itself at the start,
            "retain-only" and "never-saw" are those beside it. None: it needs none.
        layers: how many vision blocks are trained, see `trained_parameters`.
        views: of each forget picture, see `tasks.make_tasks`.
        unlabelled: strength of a term on pictures of people outside of the benchmark; 0: it needs none.
        whole_batches: whether preparation needs whole batches, whether or not they fit the device.
    """

    origin: ClassVar[str]
    ascends: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    reference = None
    layers = None
    views = 1
    unlabelled = 0.0
    whole_batches = False

    def __post_init__(self):
        check_fields(self)

    @classmethod
    def describe(cls) -> str:
        """One line: the loss, and where it comes from."""
        return f"{cls.__doc__.strip().splitlines()[0]} Origin: {cls.origin}."

    def scope(self, loaded: Loaded) -> dict[str, nn.Parameter]:
        """The weights that it changes, name -> parameter: what its setting `trained` says."""
        return trained_parameters(loaded, self.trained, self.layers)

    def prepare(self, loaded: Loaded, tasks: Tasks, steps: Steps) -> Prepared:
        """What is done once, before the first step; it may change the model."""
        return Prepared()

    def forget_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """The terms that the mask applies to.

        Args:
            part: the packs to compute now.
            batch: all packs of the step, of which they are a part; the terms of all parts add up to its.
            teacher: from `prepare`.
        """
        return no_terms(loaded)

    def keep_terms(self, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
        """All other terms; arguments as `forget_terms`."""
        return no_terms(loaded)

    def cost(self, loaded: Loaded, size: TaskSize) -> Cost:
        """What preparation and an epoch take; here, that one loss of each set is trained on."""
        return Cost(epoch=both_sets(size))


def both_sets(size: TaskSize) -> dict[str, Pass]:
    """`Cost.epoch` of a loss on the forget people's pictures and one on the retain people's."""
    return forget_set(size) | {"retain": Pass(size.retain_pictures, size.pack_tokens, backward=True)}


def forget_set(size: TaskSize) -> dict[str, Pass]:
    """`Cost.epoch` of a loss on the forget people's pictures alone."""
    return {"forget": Pass(size.forget_pictures, size.pack_tokens, backward=True)}


def trained_parameters(loaded: Loaded, trained: str, layers: int | None = None) -> dict[str, nn.Parameter]:
    """The weights that a method may change: name -> parameter.

    Args:
        trained: "visual": the MLPs of the `layers` deepest live vision blocks and the projector (VKD's way).
            "all": the whole model (the VKD paper's way for its baselines), but for vision blocks whose output
            nobody reads. "lora": adapters on its linear layers, which are put into the model: what a 7B model
            allows.
        layers: for "visual"; None: the deeper half.
    """
    one_of("trained", trained, TRAINED)
    if trained == "visual":
        return visual_parameters(loaded, layers)
    if trained == "lora":
        return lora_parameters(loaded)
    dead = dead_parameters(loaded)
    live = {n: p for n, p in loaded.model.named_parameters() if p not in dead}
    half = [n for n, p in live.items() if p.dtype != torch.float32]
    if half:
        raise ValueError(
            f'trained="all" needs the whole model in fp32, and {half[0]} is {live[half[0]].dtype}: load '
            'it with dtype float32 and without quantise, or use trained="lora"'
        )
    return live


def maskable(parameters: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """The trained weights that a saliency mask covers.

    In an adapter the mask covers B alone. A acts through B, which starts at 0, so A has no gradient to be
    judged by. It may always move.
    """
    return {name: p for name, p in parameters.items() if "lora_A" not in name}


def no_terms(loaded: Loaded) -> Terms:
    """Nothing to minimise."""
    return torch.zeros((), device=loaded.device), {}


def ascend(method: Method, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
    """`forget_terms` (-L_vqa^f, its named loss): gradient ascent on the forget people's pictures (VGID paper,
    Eq. 6)."""
    loss = batch_nll(loaded, part.forget_vqa, batch.forget_vqa)
    return -loss, {"forget_vqa": loss}


def descend(method: Method, loaded: Loaded, part: Tasks, batch: Tasks, teacher: dict) -> Terms:
    """`keep_terms` (L_vqa^r, its named loss): ordinary training on the retain people's pictures."""
    if not part.retain_vqa:
        return no_terms(loaded)
    loss = batch_nll(loaded, part.retain_vqa, batch.retain_vqa)
    return loss, {"retain_vqa": loss}
