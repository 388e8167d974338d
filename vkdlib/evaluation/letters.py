"""The letter of multiple choice in what a model wrote: one entry of LETTER_RULES a way of reading it."""

import re
from collections.abc import Callable, Collection, Mapping

WORDLIKE = r"[^\W_]"  # a letter or digit of any script
JOINS = r"['’/&-]"  # in "I'd", "N/A", "R&D", "B-movie"
ALONE = re.compile(
    rf"(?<!{WORDLIKE})(?<!{WORDLIKE}{JOINS})(?<!\b{WORDLIKE}\.)(?<![°º])(?<![°º]\s)[A-Za-z]"
    rf"(?!{WORDLIKE}|{JOINS}{WORDLIKE}|\.[A-Za-z]\b|[+#])"  # nor "20 °C", "C++"
)
VERBS = "is|was|because|since|would|must|should|seems"  # what follows a letter that is the answer
NAMED = "".join(  # not after "answer is", "Option", "letter would be"
    rf"(?<!(?i:{noun}){verb}\s)"
    for noun in ("answer", "option", "choice", "letter")
    for verb in ("", r"\sis", r"\swould\sbe", r"\smust\sbe", r"\sshould\sbe")
)
ARTICLE = re.compile(
    rf"\ba\s+(?=[*_\"'“‘«„(\[<$€£]*{WORDLIKE})"  # "a nurse"
    rf"|(?<=[\w,]\s){NAMED}a(?=\s*(?:$|,|…|\.\s*\.|[–—])|\s+[\W_]*$)"  # cut off: "identifying a", "is a, um"
    rf"|(?:^|(?<=[.!?]\s))[AI]\s+(?=[a-z])(?!(?:{VERBS})\b)"  # "A nurse", "I know" where a sentence begins
)


def parse_letter(text: str, options: Collection[str], rule: str = "alone") -> str:
    """The first letter of a text, as the rule has it, that is one of the options'; empty if there is none."""
    letters = [letter.upper() for letter in LETTER_RULES[rule](text)]
    return next((letter for letter in letters if letter in options), "")


def _alone(text: str) -> list[str]:
    """Letters that stand alone, as in "Answer: **D**" and "B: pilot"; "Don't know" and "C++" have none.

    Small letters count, but "a" before another word is the article. After a word it is, too, where the text
    breaks off or halts, unless "answer", "option" or the like names it. So is "A", and "I" a pronoun, where
    it begins a sentence and a small word other than a verb like "is" follows.
    """
    return ALONE.findall(ARTICLE.sub("", text))


def _first(text: str) -> list[str]:
    """The first letter or digit, whatever follows: the rule of widely used code. "Don't know" is D."""
    return [character for character in text if character.isalnum()][:1]


LETTER_RULES: Mapping[str, Callable[[str], list[str]]] = {"alone": _alone, "first": _first}
