"""Evidence that means harm: whatever stands in a snapshot is shown as text, or the snapshot is refused in a sentence.

What was frozen here and what another site sent go the same way, so every value of every kind is tried.
"""

import copy
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import User
from django.test import Client

from features.knowledge import collecting
from features.models import (
    SAE,
    Collection,
    CollectionItem,
    Context,
    Corpus,
    Feature,
    Label,
    LanguageModel,
    LinkView,
    Run,
    ShareLink,
    Snapshot,
)
from features.sharing import freezing, links, rendering
from features.sharing.archive import unpack
from features.sharing.shapes import Unreadable, form_of
from tests.factories import BLANKS, HOSTILE, HOSTILES, NAMED, OVERRIDE, World
from tests.features.sharing.helpers import content, signed_in, visitor

TEXT = f"""{HOSTILE}"><img src=x onerror=alert(1)>'><b onclick="x" {OVERRIDE}&lt;{{{{7*7}}}}{{% now %}}</style>"""
"""Breaks out of text, of attributes with either quote, of a style, of a template; and turns the text around."""
INJECTED = f"{TEXT}\0\x1b"
EDGES = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:00"]
"""Of time."""
NUMBERS = [0, -1, 0.5, 2**32, 2**53 - 1, 3.4028235e38, -3.4028235e38, 5e-324, 1e308]
OTHERS: list[Any] = [None, True, "", [], {}, [INJECTED], {INJECTED: INJECTED}, "9" * 1000]
RECORDS: list[Any] = [
    {INJECTED: INJECTED, "commit": {INJECTED: 1}, "dirty": INJECTED, "reported_l0": INJECTED, "files": INJECTED},
    {"commit": 7, "dirty": [INJECTED], "reported_l0": [INJECTED], "router_layer": {"a": INJECTED}, "shares": None},
    {"commit": [], "reported_l0": {}, "router_layer": INJECTED, "n_experts": [INJECTED], "per_token": {}},
    {"commit": None, "reported_l0": "1e1000000", "router_layer": 1e300, "n_experts": 2**53 - 1, "per_token": -1},
    {"commit": True, "reported_l0": True, "router_layer": [[[[INJECTED]]]], "items": INJECTED, "keys": 1},
    {"reported_l0": 1e300, "commit": "a" * 64, "a": {"b": {"c": {"d": {INJECTED: [INJECTED] * 3}}}}},
    {"reported_l0": "NaN", "values": "x", "get": INJECTED, "is_real": 1e300, "": ""},
]


class Page(HTMLParser):
    """The elements of a page, and what would run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.runs: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.runs += [name for name, _ in attrs if name.startswith(("on", "hx-", "style", "src"))]


def require_harmless(page: str) -> None:
    found = Page(page)
    assert not found.runs
    assert not found.tags & {"script", "img", "iframe", "form", "b", "style", "link", "meta", "base", "a"}
    assert OVERRIDE not in page
    assert "\0" not in page
    assert "\x1b" not in page


def show(given: Any) -> str:
    """As a page, and its figures alone."""
    frozen = form_of(given)
    for figure in rendering.figures_of(frozen).values():
        require_harmless(figure)
        ElementTree.fromstring(figure)  # noqa: S314 - our own
    page = str(rendering.evidence_html(frozen))
    require_harmless(page)
    return page


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands: of a list, in its first item, of tokens, the first."""
    if path:
        yield path
    if isinstance(value, dict):
        keys = list(value)[:1] if path[-1:] in {("texts",), ("bytes",)} else list(value)
        for key in keys:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def put(given: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.copy(given)
    changed[path[0]] = put(given[path[0]], path[1:], value) if len(path) > 1 else value
    return changed


def small(given: Any) -> Any:
    """With one example of each band and one neighbour of each kind: what is tried thousands of times."""
    for feature in given["content"].get("features", [given["content"]]):
        for name in ("positive", "negative", "decoder", "encoder", "elsewhere"):
            feature[name] = feature[name][:1]
        if activity := feature.get("activity"):
            activity["partners"] = activity["partners"][:1]
            activity["examples"] = list({each["band"]: each for each in activity["examples"]}.values())[-3:]
    return given


def feature_of(world: World) -> Any:
    given = small(content(freezing.freeze("feature", {"sae": world.sae.slug, "index": NAMED}, world.user)))
    label = {"rule": INJECTED, "precision": 0.5, "n_held_out": 11, "method": INJECTED, "explainer": INJECTED}
    given["content"]["label"] |= label | {"explanation": "a\nb"}
    given["content"]["tags"] = ["rain"]
    given["content"]["elsewhere"] = [{"sae": "other", "site": "layer 3", "index": 4}]
    given["content"]["activity"]["experts"] = [{"number": 1, "share": 0.5, "lift": 2.0}]
    given["sources"][0]["run"]["experts"] = {"router_layer": 6, "n_experts": 4, "per_token": 2}
    return given


def text_of(world: World) -> Any:
    given = feature_of(world)
    ids = [300, 301, 302]
    tokens = {"texts": {"300": " river", "302": " é"}, "bytes": {"301": "e8aa"}, "special": [302], "joiner": ""}
    given["kind"] = "text"
    given["content"] = {
        "index": 9, "label": given["content"]["label"], "text": "a river", "token_ids": ids, "values": [0.0, 1.5, 0.0],
        "sinks": [0], "near": {"position": 1, "value": -0.5}, "n_tokens": 3, "corpus_maximum": 2.5, "device": "cpu",
        "provenance": {"commit": "a" * 40, "dtype": "float32"}, "tokens": tokens,
    }  # fmt: skip
    return given


def collection_of(world: World) -> Any:
    made = collecting.create(world.user, "Rain", "falls", shared=True)
    collecting.add(made, [Feature.objects.get(sae=world.sae, index=NAMED).pk], world.user)
    given = content(freezing.freeze("collection", {"collection": made.slug}, world.user))
    given["content"]["items"][0] |= {"note": "a note", "tags": ["rain"]}
    return given


def made(kind: str, world: World) -> Any:
    if kind == "comparison":
        named = {"a": f"{world.sae.slug}/{NAMED}", "b": f"{world.sae.slug}/{HOSTILES}"}
        return small(content(freezing.freeze(kind, named, world.user)))
    if kind == "run":
        return content(freezing.freeze(kind, {"run": world.run.pk}, world.user))
    return {"feature": feature_of, "text": text_of, "collection": collection_of}[kind](world)


def hostile_for(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [INJECTED, "", "x" * 3000, *EDGES, 7]
    if isinstance(value, bool) or value is None:
        return [None, True, False, 0, INJECTED, 2**53 - 1]
    if isinstance(value, int | float):
        return [*NUMBERS, None, INJECTED, True]
    return [*OTHERS, *(RECORDS if isinstance(value, dict) else [])]


@pytest.mark.parametrize("kind", ["feature", "text", "comparison", "run", "collection"])
def test_whatever_stands_anywhere_is_shown_as_text_or_refused(kind: str, world: World) -> None:
    """Sources are tried where all of them are shown, and the features of a comparison as features alone."""
    given = made(kind, world)
    show(given)
    tried = 0
    for path in places(given):
        if len(path) > 3 and (path[1] == "features" or (path[0] == "sources" and kind not in {"feature", "run"})):
            continue
        value = given
        for step in path:
            value = value[step]
        for harm in hostile_for(value):
            tried += 1
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    show(put(given, path, harm))
                except Unreadable as refused:
                    assert str(refused).endswith("."), path
                except Exception as error:
                    raise AssertionError(f"{path} = {harm!r:.80}") from error
    assert tried > 100


def _many(given: Any, n: int) -> Any:
    """One example, ``n`` times: a small file of which a page would be a large one."""
    given = copy.deepcopy(given)
    activity = given["content"]["activity"]
    activity["examples"] = activity["examples"][:1] * n
    return given


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("content", "label", "source"), 'rule"><script>', "source"),
        (("content", "activity", "histogram", "counts"), [1] * 70_000, "counts"),
        (("content", "activity", "max_activation"), 1e39, "max_activation"),
        (("content", "activity", "examples", 0, "token_ids", 0), 2**32, "token_ids"),
        (("content", "activity", "examples", 0, "positions"), [10**6], "in the context"),
        (("content", "activity", "examples", 0, "band"), 7, "band"),
        (("content", "partners"), [], "Extra inputs"),
        (("content", "tokens"), {}, "Field required"),
        (("content", "index"), 1.5, "index"),
        (("content", "index"), "9", "index"),
        (("content", "index"), True, "index"),
        (("sources",), [], "1 of sources"),
        (("sources", 0, "run", "made_at"), "0001-01-01T00:00:00+14:00", "1970"),
        (("sources", 0, "run", "made_at"), "2026-01-01T00:00:00", "timezone"),
        (("title",), "", "title"),
        (("title",), "t" * 401, "title"),
        (("kind",), "view", "kind"),
        (("kind",), "../feature", "kind"),
        (("kind",), None, "kind"),
        (("kind",), ["feature"], "kind"),
        (("kind",), "run", "form"),
        (("version",), 2, "version 2"),
        (("version",), "1", "version"),
        (("format",), "other", "no snapshot of Featurescope"),
    ],
)
def test_a_wrong_form_is_refused_by_name(path: tuple[Any, ...], value: Any, says: str, world: World) -> None:
    with pytest.raises(Unreadable, match=says):
        form_of(put(feature_of(world), path, value))


def test_a_small_file_makes_no_page_of_gigabytes(world: World) -> None:
    given = feature_of(world)
    form_of(_many(given, 500))
    with pytest.raises(Unreadable, match="more than a page can show"):
        form_of(_many(given, 20_000))
    long = put(given, ("content", "tokens", "texts"), dict.fromkeys(given["content"]["tokens"]["texts"], "x" * 2000))
    with pytest.raises(Unreadable, match="more than a page can show"):
        form_of(_many(long, 500))
    text = put(text_of(world), ("content", "token_ids"), [300] * 600_000)
    text["content"]["values"] = [1.0] * 600_000
    with pytest.raises(Unreadable, match="more than a page can show"):
        form_of(text)


def fill(world: World) -> None:
    """Let everything that a page repeats mean harm, as what models, corpora and people bring may."""
    name = TEXT[:140]
    User.objects.filter(pk=world.user.pk).update(username=name)
    world.user.refresh_from_db()
    Corpus.objects.update(name=TEXT, source=TEXT, origin=TEXT, licence=TEXT)
    LanguageModel.objects.update(name=TEXT[:120], source=TEXT, revision=TEXT[:60], architecture=TEXT[:60])
    SAE.objects.update(name=TEXT[:120], source=TEXT, card={TEXT: TEXT}, training={TEXT: [TEXT]})
    Run.objects.update(settings={TEXT: {TEXT: TEXT}}, provenance={"commit": TEXT, TEXT: TEXT}, valid=False)
    Run.objects.update(why_not_valid=TEXT)
    Context.objects.update(document_id=TEXT[:100], document_source=TEXT[:100])
    Label.objects.update(text=TEXT, explanation=TEXT, author_name=name, rule=TEXT[:20])


def frozen_harm(world: World) -> list[tuple[Snapshot, str]]:
    """Snapshots of four kinds, each with a link whose note and views mean harm."""
    fill(world)
    held = collecting.create(world.user, "Rain", "falls", shared=True)
    keys = list(Feature.objects.filter(sae=world.sae, index__in=[HOSTILES, NAMED]).values_list("pk", flat=True))
    collecting.add(held, keys, world.user)
    Collection.objects.update(name=TEXT[:110], description=TEXT)
    CollectionItem.objects.update(note=TEXT)
    sae = world.sae.slug
    named: dict[str, dict[str, Any]] = {
        "feature": {"sae": sae, "index": HOSTILES},
        "comparison": {"a": f"{sae}/{HOSTILES}", "b": f"{sae}/{BLANKS}"},
        "run": {"run": world.run.pk},
        "collection": {"collection": held.slug},
    }
    found = []
    for kind, names in named.items():
        snapshot = freezing.freeze(kind, names, world.user)
        link, token = links.issue(snapshot, world.user, preview=True)
        ShareLink.objects.filter(pk=link.pk).update(note=TEXT)
        LinkView.objects.create(link=link, address=TEXT[:45], agent=TEXT, who=TEXT[:140])
        found.append((snapshot, token))
    return found


def require_text(page: str) -> None:
    """A page of the site's: its own elements, and nothing that was brought in."""
    found = Page(page)
    assert not [name for name in found.runs if name in {"onerror", "onclick", "style"}]
    assert not found.tags & {"img", "b", "iframe"}
    assert HOSTILE not in page
    assert OVERRIDE not in page
    assert "⟨U+202E⟩" in page


def test_hostile_names_are_text_on_every_page_and_in_every_archive(world: World) -> None:
    reader = signed_in(world.user)
    for snapshot, token in frozen_harm(world):
        shared = visitor().get(f"/s/{token}")
        assert shared.status_code == 200
        require_text(shared.content.decode())
        assert "<script" not in shared.content.decode()
        looked = Client(headers={"user-agent": "Slackbot"}).get(f"/s/{token}").content.decode()
        assert HOSTILE not in looked
        assert OVERRIDE not in looked
        require_text(reader.get(snapshot.get_absolute_url()).content.decode())
        files = unpack(visitor().get(f"/s/{token}/evidence.zip").content)
        page = files["page.html"].decode()
        require_text(page)
        assert "<script" not in page
        assert page.count("</style>") == 1
        for name, figure in files.items():
            if name.endswith(".svg"):
                assert ElementTree.fromstring(figure).tag.endswith("svg")  # noqa: S314 - our own
    for address in ("/snapshots/", "/links/", *[f"/links/{link.pk}/" for link in ShareLink.objects.all()]):
        require_text(reader.get(address).content.decode())


def test_a_note_that_hides_characters_is_refused(world: World) -> None:
    snapshot = freezing.freeze("run", {"run": world.run.pk}, world.user)
    for note in (f"for Grace {OVERRIDE}", "for\0Grace", "x" * 201):
        assert signed_in(world.user).post(f"/snapshots/{snapshot.digest}/links/", {"note": note}).status_code == 422
    assert not ShareLink.objects.exists()
