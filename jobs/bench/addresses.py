"""Which pages are asked for: chosen by a seed over all features, orders, filters and words, the worst among them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np
from django.urls import NoReverseMatch, reverse

from features.columns import columns_of
from features.listing import ORDERS, Edge
from features.models import SAE, Collection, Context, Label, Layout, Run, Tag
from features.store.contexts import unpack_many_tokens
from features.vocabulary import tokens_of
from jobs.bench.timing import Address

COMMON = ("the", "of", "and", "in")
ABSENT = "qqqzzzq"
MEANINGS = (
    "words for money and banks", "legal language", "a colour", "something about ships and the sea", "Python function",
    "negative emotions", "dates and years", "names of places", "sport", "medical treatment of a disease",
)  # fmt: skip


@dataclass(frozen=True)
class Site:
    """What there is to ask for: the runs, the widest first, and words of labels and of contexts."""

    rng: np.random.Generator
    runs: list[Run]
    labels: list[str]
    words: list[str]

    @classmethod
    def read(cls, seed: int) -> "Site":
        rng = np.random.default_rng(seed)
        runs = sorted(Run.objects.select_related("sae__model", "corpus"), key=lambda run: -run.sae.d_sae)
        written = Label.objects.exclude(source=Label.Source.RULE).order_by("pk")[:4000]
        labels = list(written.values_list("text", flat=True)[::20])
        tokens = Context.objects.filter(run=runs[0]).order_by("number").values_list("token_ids", flat=True)[:200]
        texts = tokens_of(runs[0].sae.model).decode(unpack_many_tokens([bytes(packed) for packed in tokens]))
        words = sorted({word for text in texts for word in text.split() if word.isalpha() and len(word) > 3})
        return cls(rng, runs, labels, words)

    def pick(self, among: Sequence[Any]) -> Any:
        return among[int(self.rng.integers(len(among)))]

    def run(self) -> Run:
        """Half of the time the widest."""
        run: Run = self.runs[0] if self.rng.random() < 0.5 else self.pick(self.runs)
        return run

    def feature(self) -> tuple[SAE, int]:
        """Any of all features, each as likely as another."""
        saes = [run.sae for run in self.runs]
        number = int(self.rng.integers(sum(sae.d_sae for sae in saes)))
        for sae in saes:
            if number < sae.d_sae:
                return sae, number
            number -= sae.d_sae
        raise AssertionError("unreachable")


def addresses(site: Site, n: int) -> dict[str, list[Address]]:
    """About ``n`` for each kind of page; kinds that this site does not have are left out."""
    makers: dict[str, Callable[[Site, int], Iterator[Address]]] = {
        "feature": _features,
        "table": _tables,
        "sae": _saes,
        "search": _searches,
        "meaning": _meanings,
        "hybrid": _everything,
        "home": _home,
        "collections": _collections,
        "map": _maps,
        "compare": _comparisons,
    }
    found = {}
    for kind, make in makers.items():
        try:
            found[kind] = list(make(site, n))
        except NoReverseMatch:
            continue
    return {kind: made for kind, made in found.items() if made}


def _at(case: str, name: str, *args: Any, **query: Any) -> Address:
    asked = urlencode({key: value for key, value in query.items() if value is not None})
    return Address(case, reverse(name, args=args) + (f"?{asked}" if asked else ""))


def _features(site: Site, n: int) -> Iterator[Address]:
    """Most of them any; a quarter the densest, whose examples are the longest; some with what people wrote."""
    for _ in range(n * 5 // 10):
        sae, index = site.feature()
        yield _at("any", "feature", sae.slug, index)
    for _ in range(n // 4):
        run = site.run()
        densest = columns_of(run).order("density", descending=True)[:500].tolist()
        yield _at("dense", "feature", run.sae.slug, site.pick(densest))
    written = Label.objects.filter(source=Label.Source.PERSON).order_by("pk").select_related("feature__sae")
    for label in written.defer("feature__logits", "feature__neighbours")[: n // 4]:
        yield _at("a person's label", "feature", label.feature.sae.slug, label.feature.index)


def _tables(site: Site, n: int) -> Iterator[Address]:
    orders = list(ORDERS)
    for i in range(n // 5):
        yield _at("sorted", "features", site.run().sae.slug, order=orders[i % len(orders)])
    for i in range(n // 5):
        run, order = site.run(), orders[i % len(orders)]
        where = {"after" if i % 3 else "before": _cursor(site, run, order)}
        state = site.pick(("all", "alive", "dense", "dead"))
        yield _at("deep", "features", run.sae.slug, order=order, state=state, **where)
    for _ in range(n // 5):
        yield _at("filtered", "features", site.run().sae.slug, order=site.pick(orders), **site.pick(_filters(site)))
    for order, against in _against(site, n // 5):
        yield _at("rare, against the order", "features", site.runs[0].sae.slug, order=order, **against)
    for i in range(n // 5):
        q = site.pick(COMMON) if i % 4 == 0 else site.pick(site.words)
        yield _at("text", "features", site.run().sae.slug, order=site.pick(orders), q=q)


def _cursor(site: Site, run: Run, order: str) -> str:
    """A place somewhere in an order."""
    columns, column = columns_of(run), ORDERS[order][0]
    index = int(site.rng.integers(len(columns)))
    value = index if column == "index" else getattr(columns, column)[index]
    return Edge(order, float(value), index).encode()


def _filters(site: Site) -> list[dict[str, Any]]:
    low = float(site.rng.uniform(0, 0.5))
    tags = list(Tag.objects.values_list("name", flat=True)[:3])
    return [
        {"state": "dense"},
        {"density_min": f"{low:.4f}", "density_max": f"{low + 0.001:.4f}"},
        {"maximum_min": "100"},
        *({"label": kind} for kind in ("none", "any", "rule", "model", "person")),
        {"starred": "1"},
        *({"tag": tag} for tag in tags),
        {"label": "person", "state": "dense", "density_min": "5"},
    ]


def _against(site: Site, n: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A filter that few pass, in an order in which those come last."""
    worst = [
        ("density", {"density_min": "25"}),
        ("-density", {"density_max": "0.0002", "state": "alive"}),
        ("max", {"maximum_min": "800"}),
        ("-max", {"state": "dead"}),
        ("-max", {"maximum_max": "4"}),
        ("density", {"label": "person", "state": "dense"}),
        ("-index", {"label": "person", "density_min": "20"}),
        ("mean", {"maximum_min": "500", "label": "none"}),
    ]
    for i in range(n):
        order, against = worst[i % len(worst)]
        yield order, against | ({"q": site.pick(site.words)} if i >= len(worst) and i % 3 == 0 else {})


def _saes(site: Site, n: int) -> Iterator[Address]:
    for i in range(n):
        sae = site.runs[i % len(site.runs)].sae
        yield _at(f"{sae.d_sae}", "sae", sae.slug)


def _searches(site: Site, n: int) -> Iterator[Address]:
    """By words alone; ``_everything`` is what somebody gets who chooses nothing."""
    for i in range(n):
        case, q = _query(site, i)
        mode = "text" if i // 8 % 2 else "label"
        yield _at(f"{mode}: {case}", "search", q=q, mode=mode, **_scope(site))


def _everything(site: Site, n: int) -> Iterator[Address]:
    for i in range(n):
        case, q = _query(site, i)
        yield _at(case, "search", q=q, **_scope(site))


def _scope(site: Site) -> dict[str, str]:
    """All SAEs, two times of three."""
    return {"in": f"sae/{site.run().sae.slug}"} if site.rng.random() < 1 / 3 else {}


def _query(site: Site, i: int) -> tuple[str, str]:
    label = site.pick(site.labels)
    words = label.split()
    return (
        ("label", label),
        ("word of labels", site.pick(words)),
        ("two words", f"{words[-1]} {site.pick(words[:-1])}"),
        ("beginning", site.pick(words)[:4]),
        ("word of texts", site.pick(site.words)),
        ("quoted", f'"{" ".join(words[-2:])}"'),
        ("common word", site.pick(COMMON)),
        ("nothing", ABSENT),
    )[i % 8]


def _meanings(site: Site, n: int) -> Iterator[Address]:
    for i in range(n):
        q = site.pick(MEANINGS) if i % 2 else f"{site.pick(site.words)} and {site.pick(site.words)}"
        yield _at("sentence" if i % 2 else "two words", "search", q=q, mode="meaning", **_scope(site))


def _home(site: Site, n: int) -> Iterator[Address]:
    yield from [_at("home", "home")] * n


def _collections(site: Site, n: int) -> Iterator[Address]:
    shared = list(Collection.objects.filter(shared=True).values_list("slug", flat=True))
    for i in range(n if shared else 0):
        yield _at("one", "collection", site.pick(shared)) if i % 4 else _at("list", "collections")


def _maps(site: Site, n: int) -> Iterator[Address]:
    saes = list(SAE.objects.filter(pk__in=Layout.objects.values("sae")).order_by("-d_sae"))
    for i in range(n if saes else 0):
        yield _at("page", "map", saes[i % len(saes)].slug)


def _comparisons(site: Site, n: int) -> Iterator[Address]:
    for _ in range(n):
        one, two = site.feature(), site.feature()
        yield _at("two features", "compare", a=f"{one[0].slug}/{one[1]}", b=f"{two[0].slug}/{two[1]}")
