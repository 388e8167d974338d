"""Attacks by name: the answers of an attacked model, in the layout of `evaluate`.

All are multiple choice by likelihood about the forget people, which nobody can refuse. A re-plugged model is
asked about retain people, too: parts of two models may be no whole. What else was done
stands in a question's kind ("classification, epoch 3", "classification, grey"). A gain is the score after
minus that before. Its kind and its metric are "gain", and it is -1, 0 or 1.
"""

from collections.abc import Callable, Mapping

import pandas as pd

from vkdlib.attacks.probe import probe_identity
from vkdlib.attacks.quantise import ROUNDINGS, edited_weights, quantise
from vkdlib.attacks.relearn import SCOPES, relearn
from vkdlib.attacks.replug import PARTS, replug
from vkdlib.attacks.views import AS_IT_IS, ask_in_styles
from vkdlib.benchmarks.schema import Split
from vkdlib.evaluation.evaluate import PREDICTIONS, evaluate
from vkdlib.evaluation.metrics import GAIN
from vkdlib.evaluation.ways import USUAL_WAY
from vkdlib.methods import METHODS
from vkdlib.models.loaded import Loaded
from vkdlib.models.parts import visual_parameters
from vkdlib.runs.configuration import Configuration
from vkdlib.system.checks import one_of

EDITED = "edited"  # scope of a quantisation: the weights that unlearning changed
ROUNDED = (EDITED, "all")
FORGET = ("forget", "test")  # sets about the forget people
# Attack -> the scopes that it may have; none: there is nothing to choose.
ATTACKS: dict[str, tuple[str, ...]] = {
    "relearn": SCOPES,
    "replug": PARTS,
    **dict.fromkeys(ROUNDINGS, ROUNDED),
    "probe": (),
    "styles": (),
}
OF_VANILLA = " of vanilla"  # ends the name of a row with a part put back
EPOCHS = 5  # of relearning, VKD paper, Table 4
OTHERS, TAUGHT = (
    ", others",
    ", taught",
)  # end the name of a set: forget people whom the attacker has not, or has


def check_attack(c: Configuration) -> None:
    """Raise ValueError unless a run has all that its attack needs, and nothing that no attack needs."""
    given = {name: getattr(c, name) for name in ("attack_scope", "attack_share", "attack_lr")}
    given = {name: value for name, value in given.items() if value is not None}
    if c.attack is None:
        if given:
            raise ValueError(f"{', '.join(given)}: there is no attack: name one of {', '.join(ATTACKS)}")
        return
    one_of("attack", c.attack, ATTACKS)
    needed = ["attack_scope"] * bool(ATTACKS[c.attack])
    needed += ["attack_share", "attack_lr"] * (c.attack == "relearn")
    if set(given) != set(needed):
        needs = " and ".join(needed) or "nothing else"
        raise ValueError(f"the attack {c.attack!r} needs {needs}; it has: {', '.join(given) or 'nothing'}")
    if ATTACKS[c.attack]:
        one_of("attack_scope", c.attack_scope, ATTACKS[c.attack])
    if c.method == "vanilla" and c.attack_scope == EDITED:
        raise ValueError("nothing of vanilla was edited: take attack_scope all")
    if c.way != USUAL_WAY or c.samples:
        raise ValueError(
            f"under the attack {c.attack!r} questions are put as usual: leave way and samples out"
        )


def attack_model(
    c: Configuration, loaded: Loaded, vanilla: Callable[[], Loaded], split: Split, batch_size: int
) -> pd.DataFrame:
    """What a model answers under the attack of a run; the attack may change it in place.

    Args:
        vanilla: loads the vanilla model that it was made from.
        batch_size: of the questions, see `evaluate`.
    """
    asked = {"kinds": ["classification"], "batch_size": batch_size}
    if c.attack == "relearn":
        options = {"lr": c.attack_lr, "draw": c.draw, "scope": c.attack_scope}
        rows = relearn(
            loaded, split, c.attack_share, **options, epochs=EPOCHS, batch_size=1, evaluation_batch=batch_size
        )
        return relearned_predictions(rows)
    if c.attack == "replug":
        with replug(loaded, vanilla(), c.attack_scope):
            return evaluate(loaded, split, **asked, sets=(*FORGET, "retain_unseen"))
    if c.attack in ROUNDINGS:
        with quantise(loaded, c.attack, rounded_weights(c, loaded, vanilla)):
            return evaluate(loaded, split, **asked, sets=FORGET)
    if c.attack == "probe":
        return probed_predictions(probe_identity(loaded, split))
    return styled_predictions(ask_in_styles(loaded, split, batch_size=batch_size))


def rounded_weights(c: Configuration, loaded: Loaded, vanilla: Callable[[], Loaded]) -> set[str] | None:
    """Names of the weights that a quantisation rounds; None: all.

    "edited" are those that a method has changed. Of a model that no method has changed they are those that
    VKD does: so never-saw stands beside VKD with the same weights rounded.
    """
    if c.attack_scope != EDITED:
        return None
    if c.method in METHODS:
        return edited_weights(loaded, vanilla())
    weights = set(visual_parameters(loaded).values())
    return {name for name, p in loaded.model.named_parameters() if p in weights}


def relearned_predictions(rows: pd.DataFrame) -> pd.DataFrame:
    """What `relearn` returns as predictions: of each epoch, and what was gained from first to last; of all
    forget people (the paper's Forget VQA), and of those who were taught and of the others apart.

    Returns:
        columns PREDICTIONS. Sets end with OTHERS or TAUGHT. Kinds: "classification" before the attack, then
        "classification, epoch 1" and so on, and GAIN.
    """
    keys = ["set", "modality", "kind", "question"]
    first, last = (rows[rows.epoch == epoch].set_index(keys) for epoch in (0, rows.epoch.max()))
    gain = last.assign(score=last.score - first.score, options=None).reset_index().assign(kind=GAIN)
    epochs = rows.epoch.map(lambda epoch: f", epoch {epoch}" if epoch else "")
    table = pd.concat([rows.assign(kind=rows.kind + epochs), gain], ignore_index=True)
    apart = table.assign(set=table.set + table.attacked.map({True: TAUGHT, False: OTHERS}))
    return pd.concat([table, apart], ignore_index=True)[PREDICTIONS]


def probed_predictions(rows: pd.DataFrame) -> pd.DataFrame:
    """What `probe_identity` returns as predictions of the kind "identity": the answer names a person."""
    questions = rows.person + "/identity/view" + rows.picture.astype(str)
    facts = {"kind": "identity", "modality": "vqa", "question": questions, "gold": rows.person}
    return rows.assign(**facts).reindex(columns=PREDICTIONS)


def styled_predictions(rows: pd.DataFrame) -> pd.DataFrame:
    """What `ask_in_styles` returns as predictions: the style ends the kind, as in "classification, grey"."""
    styles = rows["style"].map(lambda style: "" if style == AS_IT_IS else f", {style}")
    return rows.assign(kind=rows.kind + styles)[PREDICTIONS]


def attack_label(attack: Mapping[str, object]) -> str:
    """How the row of a table is called whose model was attacked, after the method's name: ", 20 %".

    Args:
        attack: attack, attack_scope and attack_share, as a record has them; NaN: there is none.
    """
    name, scope, share = (attack.get(f"attack{end}") for end in ("", "_scope", "_share"))
    if pd.isna(name) or name == "styles":
        return ""
    if name == "relearn":
        return f", {100 * share:g} %" + {"visual": "", "language": ", LLM", "all": ", whole"}[scope]
    if name == "replug":
        return f", {scope}{OF_VANILLA}"
    return f", {name}" + (", edited" if scope == EDITED else "")
