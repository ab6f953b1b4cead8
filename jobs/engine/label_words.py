"""The words of feature labels: kinds of tokens, words that name a subject, and how they are shown.

Pure text, without counts or scores: ``label_facts`` finds what is so at a position, ``labels`` makes rules of it.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence

TOKEN_CHARS = 64  # longer vocabulary entries and words are cut: rulers, runs of spaces, hostile uploads

Words = dict[str, str]  # the words that may name a text's subject, without suffix, and as each is first written
INNER = "inner parts of words"

STOPWORDS = frozenset(
    """about above after again against all almost along already also although always among and another any anyone
    anything are around away back became because become been before began behind being below between both but came can
    cannot come could did does doing done down during each either else enough etc even ever every few first for from
    further gave get give given goes going gone got had has have having hence her here hers herself him himself his how
    however indeed instead into its itself just kept know known last later least less let like made make makes making
    many may maybe might mine more most much must myself neither never next none nor not nothing now off often once one
    only onto other others our ours ourselves out over own per perhaps put quite rather really said same saw say says
    second see seem seemed seems seen several shall she should since some something soon still such take taken than that
    the their theirs them themselves then there therefore these they thing things this those though three through thus
    together too took toward towards two under until upon use used uses using usually very was way well went were what
    when where whether which while who whole whom whose why will with within without would yes yet you your yours
    yourself don doesn didn isn aren wasn weren won wouldn couldn shouldn hasn haven hadn ain""".split()
)

# Tried on the whole word of the peak; a word may be of several kinds, and the earlier wins a tie.
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("years", r"1[5-9]\d\d|20\d\d"),
        ("numbers", r"\d+(?:st|nd|rd|th|s)?"),
        (
            "number words",
            r"(?i:two|three|four|five|six|seven|eight|nine|ten|twenty|thirty|hundred|thousand|[mb]illion)",
        ),
        ("months", r"January|February|March|April|May|June|July|August|September|October|November|December"),
        ("weekdays", r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"),
        ("pronouns", r"(?i:i|me|my|you|your|he|him|his|she|her|we|us|our|they|them|their|it|its)"),
        ("prepositions", r"(?i:of|in|to|for|with|on|at|by|from|into|between|through|under|over|against|during|about)"),
        ("conjunctions", r"(?i:and|or|but|nor|because|although|though|while|whereas|if|unless)"),
        ("articles", r"(?i:a|an|the)"),
        ("forms of “be”", r"(?i:am|is|are|was|were|be|been|being)"),
        ("modal verbs", r"(?i:can|could|may|might|must|shall|should|will|would)"),
        ("question words", r"(?i:who|whom|whose|what|which|when|where|why|how)"),
        (
            "code keywords",
            r"def|elif|lambda|async|await|const|func|fn|struct|enum|typedef|null|nil|void|int|str|bool|float|char"
            r"|self|return|import|except|raise|yield|var|println|printf|None|True|False",
        ),
        ("names in code", r"_+[A-Za-z]\w*|[a-z]+\d*(?:_|[A-Z])\w*"),
        ("words in capitals", r"[A-Z]{2,}"),
        ("capitalised words", r"[A-ZÀ-Þ][^\W\d_]*[^\W\dA-Z_][^\W\d_]*"),
        ("single letters", r"[^\W\d_]"),
        ("line breaks", r"\W*\n\W*"),
        ("spaces and tabs", r"[^\S\n]+"),
        ("opening brackets", r"[^\w\s]*[(\[{]"),
        ("closing brackets", r"[)\]}][^\w\s]*"),
        ("quotation marks", r"[\"'`“”‘’«»]+"),  # noqa: RUF001
        ("ends of sentences", r"[.!?…][\"'”’)\]]*"),  # noqa: RUF001
        ("dashes", r"[-‐-―]+"),  # noqa: RUF001
        ("symbols and emoji", r"[←-⯿\U0001f000-\U0001faff]\W*"),
        ("punctuation", r"[^\w\s\x00-\x1f]+"),
    )
)
# What begins as a word can be of these alone; a circled digit is both alphanumeric and a symbol.
MARKS: tuple[str, ...] = ("line breaks", "spaces and tabs", "opening brackets", "closing brackets", "quotation marks")
MARKS += ("ends of sentences", "dashes", "punctuation")
KINDS_OF_WORDS = tuple((name, pattern) for name, pattern in KINDS if name not in MARKS)
ENDINGS = ("ing", "ed", "ly", "ion", "ment", "ness", "ity", "ism", "ist", "er", "est", "al", "ous", "ive", "able")
SCRIPT_NAMES = {"CJK": "Chinese characters", "HANGUL": "Korean letters"}
BROKEN = "\ufffd"
SUFFIX = re.compile(r"(?<=[^\W\d_]{3})(?:e?ments?|ings?|e[sd]|e?rs?|ions?|s|ly|e)$")
RUN = re.compile(r"\w*")
CONTEXT_WORD = re.compile(r"[^\W\d_]{3,24}")
VISIBLE = {"\n": "↵", "\t": "⇥", "\x7f": "␡"}


def subject_words(text: str) -> Words:
    """The words of a text that may name its subject, each once."""
    found: Words = {}
    for surface in dict.fromkeys(CONTEXT_WORD.findall(text)):  # a set's order would change between processes
        if known := subject_word(surface):
            found.setdefault(*known)
    return found


def is_word(character: str) -> bool:
    """Whether a character may stand inside a word; underscores may, as in names in code."""
    return character.isalnum() or character == "_"


def first_run(text: str) -> str:
    """The characters of a word that the text starts with, "" for none."""
    match = RUN.match(text)
    return match[0] if match else ""


def last_run(text: str) -> str:
    """The characters of a word that the text ends with, "" for none."""
    return first_run(text[::-1])[::-1]


def bare(token: str) -> str:
    """The token without the spaces around it, unless it is all spaces; "" for one that holds broken characters."""
    return "" if BROKEN in token else token.strip(" ") or token


def classes(word: str, token: str, joins_left: bool, joins_right: bool) -> tuple[str, ...]:
    """The kinds that a token is of, given the whole word and whether that goes on to either side; best first."""
    if BROKEN in token:
        return ("pieces of rare characters",)
    kinds = [name for name, pattern in (KINDS_OF_WORDS if is_word(word[:1]) else KINDS) if pattern.fullmatch(word)]
    if joins_left:
        kinds.append(INNER)
    if not joins_right and word.endswith(ENDINGS):
        kinds += [
            f"words ending in “{ending}”" for ending in ENDINGS if word.endswith(ending) and len(word) > len(ending) + 2
        ]
    letter = next((character for character in token if character.isalpha()), "a")
    if letter > "\u036f":
        script = unicodedata.name(letter, "unnamed").split()[0]
        kinds.append(SCRIPT_NAMES.get(script, f"{script.capitalize()} letters"))
    return tuple(kinds)


@functools.lru_cache(maxsize=262_144)  # also keeps one copy of a word, however many contexts hold it
def subject_word(surface: str) -> tuple[str, str] | None:
    """A word without case and suffix, and as written; None for one that names no subject."""
    word = surface.casefold()
    return None if word in STOPWORDS else (SUFFIX.sub("", word), surface)


def quote(texts: Sequence[str], separator: str, room: int) -> str:
    """The texts in quotation marks, each cut so that all fit into ``room`` characters."""
    width = min(24, (room - len(separator) * (len(texts) - 1)) // len(texts) - 2)
    return separator.join(f"“{shown(text, width)}”" for text in texts)


def shown(text: str, width: int) -> str:
    """At most ``width`` visible characters: what would not show, or would change how its neighbours show, is named."""
    blank = not text.strip()
    written = "".join(visible(character, blank) for character in text)
    written = "◌" * unicodedata.category(text[0]).startswith("M") + written
    return written if len(written) <= width else written[: width - 1] + "…"


def visible(character: str, blank: bool) -> str:
    """What stands for a character; ``blank`` says that the text is all spaces, so that they must show."""
    if character == " ":
        return "␣" if blank else " "
    if character in VISIBLE:
        return VISIBLE[character]
    if character < " ":
        return chr(0x2400 + ord(character))  # Unicode's control pictures
    if unicodedata.category(character)[0] in "CZ":
        return f"U+{ord(character):04X}"
    return character
