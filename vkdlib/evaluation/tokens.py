"""Words of a text in any script, for ROUGE; of Latin text those of rouge-score, unchanged."""

import functools
import itertools
import re
import unicodedata

LATIN = ((0, 0x370), (0x1D00, 0x1F00), (0x2000, 0x2C00))  # with accents, phonetic letters and all signs
NO_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
LATIN_RANGES = "".join(f"{chr(first)}-{chr(end - 1)}" for first, end in LATIN)
OTHERS = re.compile(rf"(?:[^{LATIN_RANGES}][\u0300-\u036f]*)+")  # a run of other scripts, with their accents
SIGNS = ("VARIATION SELECTOR", "MATHEMATICAL")  # of an emoji; letters of formulas: no script's words


class Tokenizer:
    """What rouge-score calls a tokenizer.

    Its own reads a to z and 0 to 9 alone, so two equal texts in Cyrillic score 0. Here other scripts count,
    in words, or in characters where a script has no blanks between words. Accented Latin letters part words,
    as they do there. Only a text with no word at all by these rules is read by letters of any kind. Other
    scripts are brought to one Unicode form first (NFC); Latin letters are not, as they are not there.
    """

    def tokenize(self, text: str) -> list[str]:
        tokens, text = [], OTHERS.sub(lambda match: unicodedata.normalize("NFC", match[0]), text)
        for script, characters in itertools.groupby(text, script_of):
            piece = "".join(characters)
            if script == "latin":
                tokens += _latin().tokenize(piece)
            else:
                tokens += [piece.lower()] if script == "blanks" else list(piece)
        return tokens or re.findall(r"[^\W_]+", text.lower())


@functools.cache
def _latin():
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


@functools.cache
def script_of(character: str) -> str:
    """Of a letter, mark or digit of another script than Latin "blanks" or "no blanks", by what is between
    that script's words; of anything else "latin"."""
    name = unicodedata.name(character, "")
    if (
        any(first <= ord(character) < end for first, end in LATIN)
        or "LATIN" in name
        or name.startswith(SIGNS)
        or unicodedata.category(character)[0] not in "LMN"
    ):
        return "latin"
    return "no blanks" if name.startswith(NO_BLANKS) else "blanks"
