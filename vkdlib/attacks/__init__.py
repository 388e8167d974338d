"""Attacks on an unlearned model: does it still know what it was to forget?

Three more need no code of their own: questions in other words and with an instruction taken back are ways to
ask (`evaluation.ways`), and leak@k is `evaluation.leaks`. Every attack is to be made on a model that never
saw the people, too: it succeeds only by what it brings back beyond that.
"""
