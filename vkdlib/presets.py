"""What a run needs beyond the paper's equations, for each kind of machine.

The paper publishes alpha and beta, and neither the thresholds d_I and d_F nor learning rate, epochs or
batch. Those of the testbed were chosen on selection people, who are never reported, by the rules and grids
in notebooks/sweeps: selection.yaml, then selection_draws.yaml for the batch of people to keep; their
results are in figures/data.
"""

TESTBED = {
    "method": {"alpha": 1.25, "beta": 3.0, "d_I": 1.3, "d_F": 1.0, "layers": None},
    "training": {
        "epochs": 50,
        "lr": 1e-3,
        "batch_size": 5,
        "retain_batch": 15,
        "schedule": "constant",
        "weight_decay": 0.0,
    },
}
PRESETS = {"testbed": TESTBED}


def preset(name: str, part: str, **changes) -> dict:
    """Settings of a preset with changes; a change that is None leaves the preset's value.

    Args:
        part: "method" or "training".
    """
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name][part] | {k: v for k, v in changes.items() if v is not None}
