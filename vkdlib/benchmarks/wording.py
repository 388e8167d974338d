"""How evaluation questions are put to a model: the protocol of MLLMU-Bench (zero-shot)."""

from collections.abc import Mapping

BLANK = "[Blank]"


def cloze(question: str) -> str:
    """A sentence with a gap (`__` in the data)."""
    gap = question.replace("__", BLANK)
    return f"{gap}\nPlease **ONLY** provide the correct answer that should replace the {BLANK}."


def sentence(question: str) -> str:
    """An open question, to be answered in a sentence."""
    return (
        f"{question}\nAnswer the question based on your trained knowledge in one sentence "
        "accurately in ENGLISH."
    )


def multiple_choice(question: str, options: Mapping[str, str]) -> str:
    """A question with its options, to be answered with a letter."""
    lines = "\n".join(f"{key}: {text}" for key, text in options.items())
    return f"{question}\n{lines}\nJust give ONE letter representing the answer directly."
