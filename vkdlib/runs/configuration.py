"""What makes a run what it is (`Configuration`), and what changes no result (`Machine`). Needs no torch."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from vkdlib.benchmarks.schema import KINDS, MAX_NEW_TOKENS, PROTOCOLS
from vkdlib.evaluation.letters import LETTER_RULES
from vkdlib.evaluation.ways import USUAL_WAY, make_way
from vkdlib.models import DTYPES, QUANTISATIONS
from vkdlib.system.checks import check_fields, setting

TEACHERS = ("vanilla", "last")  # of a series of requests
LARGEST_SEED = 2**32 - 1  # that numpy takes; torch takes larger ones


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What makes a run what it is: two equal ones are the same run.

    A field at its default leaves no trace in the run's hash, so that a new field renames no old run. For the
    same reason the default of a field never changes.

    Attributes:
        model: "testbed/<family>", or folder or Hub id of a vanilla model.
        benchmark: "testbed/mllmu", "testbed/clear", a folder of parquet files, or a Hub id.
        forget_ratio: per cent of the people to forget.
        method: one of `methods.METHODS`, or of `model_names.CONTROLS`.
        settings: of the method, for example {"beta": 0}.
        training: arguments of `unlearning.unlearn`: epochs, lr, batch_size, retain_batch and so on.
        qa_image: "blank" gives questions in text a grey picture in training.
        seed: of the order in which training sees people.
        select: pose the task on selection people, to choose settings, instead of the reported ones.
        draw: who is to be forgotten: 0 takes the benchmark's own forget set, see `Benchmark.split`. With
            `select`, which of the selection people, see `Split.for_selection`.
        replicate: which of the embedded models of a kind, each trained in an order of its own.
        kinds: of questions that are asked afterwards.
        way: how they are put, see `ways`: "shown" as the benchmark has them.
        samples: answers that are sampled to each cloze about unseen pictures of the forget people, for leak@k
            (`evaluation.leaks`); 0: none.
        attack: what is done to the model before it is asked, one of `attacks.attack.ATTACKS`; None: nothing.
        attack_scope: the part of the model that it acts on.
        attack_share: of the forget people that the attacker has pictures of, 0 to 1.
        attack_lr: the attacker's learning rate.
        requests: people of a request; requests come one after another, in the order of the people
            (`experiments.continual`). 0: all are forgotten at once.
        teacher: of a series of requests, whom the student agrees with: the first "vanilla" model, or the
            "last" one.
        protocol: how multiple choice is answered, see `evaluate.evaluate`.
        letters: how a letter is read from an answer in words, see `letters`.
        max_new_tokens: of an answer in words.
        revision, data_revision: commits of model and benchmark on the Hub; None takes the newest.
        dtype, quantise: precision of the language model, see `loading.load`.
        max_pixels: of a picture, see `loading.load`.
        retain_only: name of the model beside `model` that never met the people to forget: the rows
            "retain-only" and "never-saw", NPO's reference, and what the gate compares with. None: the
            embedded one. Another model here makes another run only if
            the run starts from it or compares with it.
        strangers: folder of pictures of people outside of the benchmark, or "testbed/strangers", for a method
            with `unlabelled`; any other method makes the same run without.
        schema: of the benchmark, "mllmu" or "clear". This field and those below are filled in when a run
            starts.
        data, weights: hashes of the benchmark and of the model that the run starts from.
        strangers_data: hash of the pictures of `strangers`.
        processor: hash of a model folder's other files.
        reference_weights: hash of the model that the method compares with.
    """

    model: str = "testbed/llava"
    benchmark: str = "testbed/mllmu"
    forget_ratio: int = setting(5, low=1, high=99)
    method: str = "VKD"
    settings: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    qa_image: str | None = setting(None, known=["blank"])
    seed: int = setting(0, low=0, high=LARGEST_SEED)
    select: bool = False
    draw: int = setting(0, low=0)
    replicate: int = setting(0, low=0)
    kinds: tuple[str, ...] = setting(KINDS, known=KINDS)
    way: str = USUAL_WAY
    samples: int = setting(0, low=0)
    attack: str | None = None
    attack_scope: str | None = None
    attack_share: float | None = setting(None, above=0, high=1)
    attack_lr: float | None = setting(None, above=0)
    requests: int = setting(0, low=0)
    teacher: str = setting("vanilla", known=TEACHERS)
    protocol: str = setting("likelihood", known=PROTOCOLS)
    letters: str = setting("alone", known=LETTER_RULES)
    max_new_tokens: int = setting(MAX_NEW_TOKENS, low=1)
    revision: str | None = None
    data_revision: str | None = None
    dtype: str = setting("float32", known=DTYPES)
    quantise: str | None = setting(None, known=QUANTISATIONS)
    max_pixels: int | None = setting(None, low=1)
    retain_only: str | None = None
    strangers: str | None = None
    schema: str | None = None
    data: str | None = None
    weights: str | None = None
    strangers_data: str | None = None
    processor: str | None = None
    reference_weights: str | None = None

    def __post_init__(self):
        for name in ("model", "benchmark", "retain_only", "strangers"):
            if isinstance(getattr(self, name), Path):
                object.__setattr__(self, name, str(getattr(self, name)))
        check_fields(self)
        make_way(self.way)
        if not self.kinds:
            raise ValueError(f"kinds is empty; it must name some of {', '.join(KINDS)}")
        object.__setattr__(self, "kinds", tuple(kind for kind in KINDS if kind in self.kinds))
        for name in ("settings", "training"):
            values = {key: drop_zero_fraction(value) for key, value in getattr(self, name).items()}
            object.__setattr__(self, name, values)

    @property
    def identity(self) -> dict:
        """What the run's hash is made of: the fields that are not at their default."""
        default = vars(Configuration())
        return {name: value for name, value in vars(self).items() if value != default[name]}

    @property
    def usual(self) -> "Configuration":
        """The run with the same model, not attacked, asked as usual and without samples: itself, if it is so;
        else the one that is asked all kinds."""
        unharmed = dict.fromkeys(("attack", "attack_scope", "attack_share", "attack_lr"))
        usual = replace(self, way=USUAL_WAY, samples=0, **unharmed)
        return self if usual == self else replace(usual, kinds=KINDS)

    @property
    def flat(self) -> dict:
        """All values in one layer: settings and training unpacked."""
        layer = {name: value for name, value in vars(self).items() if not isinstance(value, dict)}
        return layer | self.settings | self.training


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What fits the machine. No result depends on it but by rounding, and it is no part of what a run is.

    Attributes:
        micro_batch: pictures of each set on the device at a time; None: all of a step's.
        checkpointing: compute activations twice instead of keeping them.
        evaluation_batch: packs or prompts at a time when questions are asked.
    """

    micro_batch: int | None = setting(None, low=1)
    checkpointing: bool = False
    evaluation_batch: int = setting(64, low=1)

    def __post_init__(self):
        check_fields(self)


def drop_zero_fraction(value):
    """The same value, 3.0 as 3, also in a tuple: beta 3 and beta 3.0 are one run."""
    if isinstance(value, tuple):
        return tuple(map(drop_zero_fraction, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value
