"""What a run starts from and is compared with: names of models, by task and method."""

import torch

from vkdlib.loading import load
from vkdlib.methods import make_method
from vkdlib.models import Loaded
from vkdlib.published import published

REFERENCES = {  # models that are evaluated as they are -> which pictures they are asked with
    "base": "shown",
    "vanilla": "shown",
    "retain-only": "shown",
    "vanilla, blank picture": "blank",
    "vanilla, no picture": "hidden",
}


def checkpoint(model: str, benchmark: str, method: str, forget_ratio: int) -> str:
    """Name of the model that a run starts from.

    Embedded models come in kinds (base, vanilla, retain-only); anything else is a vanilla model itself.
    """
    if model in published()["models"] and method != "base":
        raise ValueError(
            f"{model} does not know the people of {benchmark} yet: make a vanilla model of it first "
            "(notebooks/02_vanilla_models.ipynb), then name its folder as the model"
        )
    if not model.startswith("testbed/") and model not in published()["models"]:
        if method in ("base", "retain-only"):
            raise ValueError(f"{model} is a vanilla model; load the {method} one by its own name")
        return model
    if method == "base":
        return f"{model}/base" if model.startswith("testbed/") else model
    kind = f"retain-only-{forget_ratio}" if method == "retain-only" else "vanilla"
    return f"{model}-{benchmark.split('/')[-1]}/{kind}"


def reference(config: dict) -> str | None:
    """The model that a run's method compares with (NPO), beside the one it starts from; None: no other."""
    if config["method"] in REFERENCES:
        return None
    name = getattr(make_method(config["method"], **config["settings"]), "reference", None)
    if name == "retain-only":
        if config["select"]:
            raise ValueError('no retain-only model hides the selection people: choose reference="vanilla"')
        if not config["model"].startswith("testbed/"):
            raise ValueError('name the retain-only model: reference="<its folder>", or "vanilla"')
        return checkpoint(config["model"], config["benchmark"], "retain-only", config["forget_ratio"])
    return None if name == "vanilla" else name


def load_start(config: dict) -> Loaded:
    """The model that a run starts from."""
    name = checkpoint(*(config[k] for k in ("model", "benchmark", "method", "forget_ratio")))
    given = {name: config.get(name) for name in ("revision", "max_pixels")}
    return load(name, **given, **_precision(config.get("precision")))


def _precision(wanted: dict | None) -> dict:
    """Arguments of `load` from names as they stand in a configuration."""
    wanted = dict(wanted or {})
    if "dtype" in wanted:
        wanted["dtype"] = getattr(torch, wanted["dtype"])
    return wanted
