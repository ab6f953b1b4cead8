"""How a text is cut into words: the same for every text that is searched and for what is asked, on every database."""

import re
from collections.abc import Sequence

LONGEST = 40
"""Characters of a word that an index holds. What two longer words share at their start, only the texts tell apart."""

# Scripts that are written without spaces (Thai to Khmer, kana, Chinese characters): each character is a word there.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_LETTER = rf"[^\W_{_UNSPACED}]"
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTER}+")
_ALONE = re.compile(rf"[{_UNSPACED}]")


def split(text: str) -> list[str]:
    """The words of ``text`` in their order, without case: letters and digits that stand together."""
    return _WORD.findall(text.casefold())


def indexed(text: str) -> str:
    """The words of ``text`` as an index gets them: cut to LONGEST, one space between two."""
    return " ".join(word[:LONGEST] for word in split(text))


def pattern(words: Sequence[str], *, unfinished: bool = False, inside: bool = False) -> re.Pattern[str]:
    """Finds ``words``, which follow one another, in a text without case.

    The last may begin a longer one if it is ``unfinished``, which is found whole. ``inside``: the first may also end a
    longer one, and of longer ones only the letters are found.
    """
    found = "".join(
        re.escape(word) + ("" if after is None else _between(word, after))
        for word, after in zip(words, [*words[1:], None], strict=True)
    )
    if not inside and not _ALONE.match(words[0]):
        found = f"(?<!{_LETTER}){found}"
    if not inside and not _ALONE.match(words[-1]):
        found += f"{_LETTER}*" if unfinished else f"(?!{_LETTER})"
    return re.compile(found)


def _between(word: str, after: str) -> str:
    """What stands between two words that follow one another."""
    return r"[\W_]*" if _ALONE.match(word) or _ALONE.match(after) else r"[\W_]+"


def places(text: str) -> Sequence[int]:
    """Of each character of ``text.casefold()``, and of its end, the place in ``text``."""
    if len(text.casefold()) == len(text):
        return range(len(text) + 1)
    return [*(i for i, character in enumerate(text) for _ in character.casefold()), len(text)]
