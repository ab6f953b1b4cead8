"""What a search has to find, worked out from all rows, without an index."""

import re

from features.models import Context, Feature, Run
from features.store.contexts import unpack_features
from tests.factories import texts_of


def words(text: str) -> list[str]:
    """Runs of letters and digits; a character of a script without spaces is a word. ASCII and kana are enough here."""
    return re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]|[a-z0-9éß]+", text.casefold())


def terms(q: str) -> list[tuple[list[str], bool]]:
    """The words of each term, and whether the last of them may be unfinished."""
    found = [(m.group(1) is not None, m.group(1) or m.group(2)) for m in re.finditer(r'"([^"]*)"|([^\s"]+)', q)]
    cut = [(quoted, term, words(term)) for quoted, term in found]
    return [
        (row, i == len(cut) - 1 and not quoted and term[-1].isalnum() and len(row[-1]) > 2)
        for i, (quoted, term, row) in enumerate(cut)
        if row
    ]


def holds(text: str, row: list[str], unfinished: bool) -> bool:
    """Whether the words of ``row`` follow one another in ``text``."""
    there = words(text)
    for start in range(len(there) - len(row) + 1):
        window = there[start : start + len(row)]
        if window[:-1] == row[:-1] and (window[-1].startswith(row[-1]) if unfinished else window[-1] == row[-1]):
            return True
    return False


def mentions(q: str, text: str) -> bool:
    asked = terms(q)
    return bool(asked) and all(holds(text, *term) for term in asked)


def labels(q: str, text: str) -> bool:
    """Word by word; or each term anywhere in the words in a row, if all terms are of three letters or more."""
    rows = [" ".join(row) for row, _ in terms(q)]
    within = bool(rows) and all(len(row) > 2 and row in " ".join(words(text)) for row in rows)
    return mentions(q, text) or within


def matching(run: Run, q: str) -> list[int]:
    found = {int(q)} if q.isdecimal() and int(q) < run.sae.d_sae else set()
    for feature in Feature.objects.filter(sae=run.sae, label__isnull=False).select_related("label"):
        assert feature.label is not None
        if labels(q, feature.label.text) or mentions(q, feature.label.explanation):
            found.add(feature.index)
    texts = texts_of(run)
    for context in Context.objects.filter(run=run):
        if mentions(q, texts[context.number]):
            found.update(unpack_features(bytes(context.features)).tolist())
    return sorted(found)
