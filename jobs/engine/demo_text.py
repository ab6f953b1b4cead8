"""The demo's text, made from what the requirements and Python itself already bring: nothing is downloaded.

Four kinds of text: Wikipedia articles and ABC news stories (shipped by gensim as test data), Python's documentation and
the source of standard library modules. They are split by source into text to look at (``demo.jsonl``) and text to train
the demo's SAE on (``demo-train.jsonl``), so that no article is on both sides.
"""

import bz2
import hashlib
import importlib.util
import itertools
import json
import os
import re
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from jobs.engine.corpus import Document
from jobs.engine.errors import CorpusError

DEMO_PROVENANCE = {
    "origin": (
        "English Wikipedia articles and Australian Broadcasting Corporation news stories, both as shipped in gensim's "
        "test data; Python's own documentation (pydoc_data.topics) and standard library source"
    ),
    "licence": (
        "Wikipedia: CC BY-SA; ABC news stories: as shipped by gensim (the Lee background corpus); "
        "Python documentation and source: Python Software Foundation License"
    ),
}

WIKI_DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
NEWS_FILE = "lee_background.cor"
MAX_CHARACTERS = 6000
# The share of each kind's sources that goes to demo.jsonl, by the id's first part.
DEMO_SHARE = {"enwiki": 0.43, "abc-news": 0.5, "python-docs": 0.25, "python-source": 0.12}

SOURCE_MODULES = """
    asyncio.queues base64 bisect cmd contextlib copy csv dataclasses fnmatch fractions getopt glob graphlib gzip heapq
    html.parser json.decoder json.encoder json.scanner linecache netrc numbers operator queue random reprlib sched
    secrets shelve shlex statistics string textwrap timeit unittest.suite weakref zipapp
    calendar cgi code colorsys configparser dis email.message filecmp ftplib functools http.cookies ipaddress
    logging pathlib shutil tempfile tokenize types uuid wave
"""

# Sections of an article that are lists of links and books, not prose.
BACK_MATTER = re.compile(
    r"(see also|notes|footnotes|references|citations|sources|bibliography|further reading|external links|gallery"
    r"|primary sources|secondary sources|notes and references|references and notes|works cited|discography|filmography)"
    r"\b.*",
    re.IGNORECASE,
)
HEADING = re.compile(r"^(={2,6})\s*(.*?)\s*=+\s*$")
# Templates whose words belong to the sentence around them; gensim drops every template whole.
MEASURE = re.compile(
    r"\{\{\s*(?:convert|cvt)\s*\|([^{}|]+\|(?:(?:\u2013|-|to|and|by|x|or)\|[^{}|]+\|)?[^{}|]+)[^{}]*\}\}",
    re.IGNORECASE,
)
WORDS = re.compile(
    r"\{\{\s*(?:lang\s*\|[^{}|]*|lang-[a-z-]+|transl\s*\|[^{}|]*|nowrap|nobr|angle bracket)\s*\|([^{}|]+)[^{}]*\}\}",
    re.IGNORECASE,
)
# What gensim leaves inside a line, and what to put in its place; in this order.
LEFTOVERS = [
    (re.compile(r"(?<=\w)'''(?=s\b)"), "'"),  # the end of italics before a possessive s
    (re.compile(r"'{2,}"), ""),
    (re.compile(r"</?\w[^<>\n]*>"), ""),
    (re.compile(r"\[\[|\]\]|\{\{|\}\}|\{\||\|\}"), ""),
    (re.compile(r"&#?\w+;"), " "),
    (re.compile(r"__[A-Z]+__"), ""),
    (re.compile(r"\b(?:https?://|www\.)\S+"), ""),
    (re.compile(r"[\xa0\t\u2009\u202f]+"), " "),
    (re.compile(r"\(\s*(?:(?:[,;:]|\bor\b|\band\b)\s*)+"), "("),  # an emptied template at the start of a bracket
    (re.compile(r"\( +"), "("),
    (re.compile(r"\s*[,;:\s]+\)"), ")"),
    (re.compile(r"\s*\(\)"), ""),
    (re.compile(r" {2,}"), " "),
    (re.compile(r" +(?=[,.;:!?)](?:\s|$))"), ""),
    (re.compile(r",(?=[,.])"), ""),
]


def build_demo_corpora(folder: Path) -> tuple[Path, Path]:
    """Write ``demo.jsonl`` and ``demo-train.jsonl`` into ``folder``, unless both are there, and return their paths.

    Each line is ``{"id", "source", "text"}``; lines are in the order of the sha256 of their id, so that the first n
    lines are already a mixture. The same Python and gensim give the same bytes. Raises CorpusError without gensim.
    """
    demo, train = folder / "demo.jsonl", folder / "demo-train.jsonl"
    if demo.exists() and train.exists():
        return demo, train
    folder.mkdir(parents=True, exist_ok=True)
    documents = sorted(demo_documents(), key=lambda document: _hash(document.id))
    _write(demo, (document for document in documents if is_demo(document)))
    _write(train, (document for document in documents if not is_demo(document)))
    return demo, train


def is_demo(document: Document) -> bool:
    """Whether the document is one to look at (True) or to train on: the same for all documents of one source."""
    return int(_hash(document.source)[:8], 16) / 2**32 < DEMO_SHARE[document.id.split("/")[0]]


def demo_documents() -> Iterator[Document]:
    """Every document of both corpora, about 6,000 characters at most, kind by kind.

    Raises CorpusError where gensim, or the text it ships, is missing.
    """
    if importlib.util.find_spec("gensim") is None:
        raise CorpusError("The demo's text comes with gensim, which is not installed; install requirements.txt.")
    return itertools.chain(_wikipedia(), _news(), _python_docs(), _python_source())


def clean_wiki(markup: str) -> str:
    """The prose of one article's wiki markup: paragraphs with a blank line between them, headings on their own."""
    from gensim.corpora.wikicorpus import filter_wiki

    text = filter_wiki(WORDS.sub(r"\1", MEASURE.sub(lambda found: found[1].replace("|", " "), markup)))
    blocks: list[str] = []
    heading, skipping = "", 0  # skipping: the depth of the back-matter section we are in
    for raw in text.splitlines():
        if match := HEADING.match(raw.strip()):
            depth, title = len(match[1]), _clean_line(match[2])
            if not skipping or depth <= skipping:
                skipping = depth if BACK_MATTER.fullmatch(title) else 0
            heading = title
        elif not skipping and (line := _prose(raw)):
            blocks += [heading, line] if heading else [line]
            heading = ""
    return "\n\n".join(blocks)


def _prose(raw: str) -> str:
    """The line without its list marks and leftovers; empty if it is a table cell, a picture or a bare list item."""
    if "|" in raw or re.match(r"\s*(?:File|Image|Category|[a-z]{2,3}(?:-[a-z]+)?):\S", raw):
        return ""
    line = _clean_line(raw.strip().lstrip("*#:; "))
    is_sentence = len(line.split()) >= 8 and re.search(r"[.!?:;][\"\u201d\u2019')]*$", line)
    return line if is_sentence and sum(map(str.isalpha, line)) > 0.6 * len(line) else ""


def _clean_line(line: str) -> str:
    for pattern, replacement in LEFTOVERS:
        line = pattern.sub(replacement, line)
    return line.strip(" =")


def _wikipedia() -> Iterator[Document]:
    from gensim.corpora.wikicorpus import extract_pages

    with bz2.open(_gensim_data(WIKI_DUMP)) as dump:
        for title, markup, _page_id in extract_pages(dump, filter_namespaces=("0",)):
            if not markup.lstrip().lower().startswith("#redirect"):
                yield from _cut(f"enwiki/{title}", f"Wikipedia: {title}", clean_wiki(markup))


def _news() -> Iterator[Document]:
    lines = _gensim_data(NEWS_FILE).read_text(encoding="utf-8").splitlines()
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        sentences = set(re.split(r"(?<=[.?!])\s+", line.strip()))
        if 4 * len(sentences & seen) > len(sentences):
            continue  # an update of an earlier story, which may be on the other side of the split
        seen |= sentences
        yield Document(f"abc-news/{number:03}", f"ABC News story {number}", line.strip())


def _python_docs() -> Iterator[Document]:
    from pydoc_data.topics import topics

    seen: set[str] = set()  # topics repeat each other's sections; a paragraph belongs to the shortest topic that has it
    for topic in sorted(topics, key=lambda name: (len(topics[name]), name)):
        paragraphs = [part for part in topics[topic].split("\n\n") if part.strip() not in seen]
        seen.update(part.strip() for part in paragraphs if len(part) > 60)
        yield from _cut(f"python-docs/{topic}", f"Python documentation: {topic}", "\n\n".join(paragraphs))


def _python_source() -> Iterator[Document]:
    library = Path(sysconfig.get_path("stdlib"))
    for module in SOURCE_MODULES.split():
        path = library / (module.replace(".", "/") + ".py")
        if path.is_file():  # another Python may have moved it
            yield from _cut(f"python-source/{module}", f"Python source: {module}", path.read_text(encoding="utf-8"))


def _cut(stem: str, source: str, text: str) -> Iterator[Document]:
    """Documents of about equal length, at most MAX_CHARACTERS unless one paragraph alone is longer."""
    text = text.strip("\n")
    if len(text) < 200:
        return
    target = len(text) / -(-len(text) // MAX_CHARACTERS)
    pieces: list[str] = []
    for paragraph in text.split("\n\n"):
        full = not pieces or len(pieces[-1]) >= target or len(pieces[-1]) + len(paragraph) > MAX_CHARACTERS
        if full:
            pieces.append(paragraph)
        else:
            pieces[-1] += "\n\n" + paragraph
    for number, piece in enumerate(pieces):
        if piece.strip():
            yield Document(f"{stem}/{number:02}", source, piece)


def _gensim_data(name: str) -> Path:
    from gensim.test.utils import datapath

    path = Path(datapath(name))
    if not path.is_file():
        raise CorpusError(f"{path}: this gensim lacks the demo's text; install the version in requirements.txt.")
    return path


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, documents: Iterable[Document]) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", dir=path.parent, delete=False) as scratch:
        for document in documents:
            row = {"id": document.id, "source": document.source, "text": document.text}
            scratch.write(json.dumps(row, ensure_ascii=False) + "\n")
    Path(scratch.name).chmod(0o644)
    os.replace(scratch.name, path)  # noqa: PTH105
