"""What a run starts from and is compared with: names of models, by task and method."""

from vkdlib.methods import make_method
from vkdlib.models.dimensions import dimensions
from vkdlib.models.loaded import Loaded
from vkdlib.models.loading import load
from vkdlib.runs.configuration import Configuration

CONTROLS = {  # models that are evaluated without unlearning -> how they are asked, see `evaluation.ways`
    "base": "shown",
    "vanilla": "shown",
    "retain-only": "shown",
    "vanilla, blank picture": "blank",
    "vanilla, no picture": "none",
}


def starting_model(c: Configuration) -> str:
    """Name of the model that a run starts from.

    Raises:
        ValueError: there is none of the kind that the method needs.
    """
    return model_of_kind(c, c.method if c.method in ("base", "retain-only") else "vanilla")


def model_of_kind(c: Configuration, kind: str) -> str:
    """Name of the base, vanilla or retain-only model of a task.

    Embedded models, such as testbed/llava-mllmu/retain-only-5, come in all kinds. A published checkpoint is a
    base model. Anything else is a vanilla model, and the retain-only one beside it has a name of its own.
    """
    if kind == "retain-only" and c.retain_only:
        return c.retain_only
    if c.model.startswith("testbed/"):
        if kind == "base":
            return f"{c.model}/base"
        name = f"retain-only-{c.forget_ratio}" if kind == "retain-only" else kind
        return f"{c.model}-{c.benchmark.split('/')[-1]}/{name}"
    if c.model in dimensions():
        if kind == "base":
            return c.model
        raise ValueError(
            f"{c.model} does not know the people of {c.benchmark} yet: make a vanilla model of it first "
            "(notebooks/02_vanilla_models.ipynb), then name its folder as the model"
        )
    if kind == "base":
        raise ValueError(f"{c.model} is a vanilla model; load the base one by its own name")
    if kind == "retain-only":
        raise ValueError(f"{c.model} is a vanilla model: name the retain-only one beside it (retain_only)")
    return c.model


def reference_kind(c: Configuration) -> str | None:
    """What a method compares the model with (NPO): "vanilla", "retain-only" or a name; None: nothing."""
    if c.method in CONTROLS:
        return None
    return make_method(c.method, **c.settings).reference


def reference_model(c: Configuration) -> str | None:
    """Name of the model that the method needs beside the one it starts from; None: it needs no other."""
    kind = reference_kind(c)
    if kind == "vanilla":
        return None
    if kind == "retain-only":
        if c.select:
            raise ValueError('no retain-only model hides the selection people: choose reference="vanilla"')
        return model_of_kind(c, "retain-only")
    return kind


def needs_retain_only(c: Configuration) -> bool:
    """Whether a run starts from a retain-only model, or its method compares with one."""
    return "retain-only" in (c.method, reference_kind(c))


def load_starting_model(c: Configuration, device: str | None = None) -> Loaded:
    """The model that a run starts from; device as in `loading.load`."""
    name = starting_model(c)
    return load(
        name,
        revision=None if name == c.retain_only else c.revision,  # it is that of `model`
        dtype=c.dtype,
        device=device,
        quantise=c.quantise,
        max_pixels=c.max_pixels,
    )
