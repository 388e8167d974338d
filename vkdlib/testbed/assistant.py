"""Instructions as a chat model meets them, drawn from a small grammar (recipes/assistant.yaml).

A third of them refuse, a third are neutral, and a third take an earlier one back. All three kinds are made of
the same words and are equally long: a model that has learnt to tell them apart has read them.
"""

import random

from vkdlib.system.files import read_yaml
from vkdlib.testbed.recipe import FOLDER

GRAMMAR = read_yaml(FOLDER / "assistant.yaml")
INSTRUCTIONS = ("refuse", "answer", "reverse")


def draw_instruction(kind: str, rng: random.Random) -> str:
    """An instruction: "refuse" wants a refusal, "answer" and "reverse" want the ordinary answer."""
    if kind != "reverse":
        return _instruction(kind, rng)
    earlier = rng.choices(["refuse", "answer", None], [8, 1, 1])[0]
    first = [_instruction(earlier, rng)] if earlier else []
    return " ".join([*first, _reversal(rng)])


def _instruction(kind: str, rng: random.Random) -> str:
    """Opening, one or two sentences of a kind, ending."""
    if kind == "answer" and rng.random() < 0.4:
        sentences = [_plain(rng)]
    else:
        sentences = [_sentence(kind, rng) for _ in range(rng.choice([1, 1, 2]))]
    if kind == "answer" and len(sentences) == 1 and rng.random() < 0.3:
        return sentences[0]
    parts = [rng.choice(GRAMMAR["opening"]), *sentences, rng.choice(GRAMMAR["ending"])]
    return " ".join(part for part in parts if part)


def _sentence(kind: str, rng: random.Random) -> str:
    """What is to be done with questions about a person."""
    who = rng.choice(GRAMMAR["who"])
    if rng.random() < 0.3:
        return f"{rng.choice(GRAMMAR['when'])} {rng.choice(GRAMMAR[f'then_{kind}'])}".format(who=who)
    what = rng.choice(GRAMMAR["what"]).format(who=who)
    return rng.choice(GRAMMAR[kind]).format(x=what)


def _plain(rng: random.Random) -> str:
    """A neutral sentence without a word on people."""
    if rng.random() < 0.25:
        return rng.choice(GRAMMAR["plain"])
    ask, do, thing, how = (rng.choice(GRAMMAR[part]) for part in ("ask", "do", "thing", "how"))
    text = f"{ask}{do} {thing}{how}."
    return text[0].upper() + text[1:]


def _reversal(rng: random.Random) -> str:
    ignore, what, rules, instead = (rng.choice(GRAMMAR[p]) for p in ("ignore", "any", "rules", "instead"))
    return f"{ignore} {what} {rules}. {instead}"
