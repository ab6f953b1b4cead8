"""Features as people write them down: ``sae/3``, and lists of that."""

import re
from collections.abc import Sequence

from features.knowledge.rules import Refused
from features.models import SAE, Feature

MOST = 10_000
"""How many features a list may name."""

Name = tuple[str, int]


def names_in(text: str, sae: str = "") -> list[Name]:
    """The slugs and indexes in a list like ``sae/3, sae/17``, each once; bare indexes are those of ``sae``.

    Refused for what is not of this form, and for a list that is empty or longer than MOST.
    """
    found: dict[Name, None] = {}
    for word in re.split(r"[\s,;]+", text.strip(" \t\r\n,;")):
        name = re.fullmatch(r"(?:([-\w]{1,120})/)?([0-9]{1,9})", word, re.ASCII)
        if not name or not (name[1] or sae):
            wanted = "an index or sae/index" if sae else "sae/index"
            raise Refused(f"“{word[:60]}” names no feature: write {wanted}." if word else f"Name a feature: {wanted}.")
        found[name[1] or sae, int(name[2])] = None
        if len(found) > MOST:
            raise Refused(f"A list can name {MOST:,} features; this one names more.")
    return list(found)


def find_named(names: Sequence[Name]) -> list[Feature]:
    """The features of these names, each with its SAE, in this order. Refused if one does not exist.

    One query, and one more for each SAE.
    """
    by_sae: dict[str, list[int]] = {}
    for slug, index in names:
        by_sae.setdefault(slug, []).append(index)
    found: dict[Name, Feature] = {}
    saes = {sae.slug: sae for sae in SAE.objects.filter(slug__in=list(by_sae))}
    for slug, indexes in by_sae.items():
        if slug not in saes:
            raise Refused(f"There is no SAE “{slug}” here.")
        sae = saes[slug]
        for feature in Feature.objects.filter(sae=sae, index__in=indexes).defer("logits", "neighbours"):
            feature.sae = sae
            found[slug, feature.index] = feature
        missing = [index for index in indexes if (slug, index) not in found]
        if missing:
            raise Refused(f"{slug} has no feature {missing[0]}: they are numbered from 0 to {sae.d_sae - 1}.")
    return [found[name] for name in names]
