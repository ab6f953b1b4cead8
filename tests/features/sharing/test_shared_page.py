"""The page that a link opens: what it says, to browsers and to programs that look ahead, and what goes with it."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.db.models import ProtectedError
from django.test import Client

from features.knowledge import labelling
from features.models import SAE, Feature, Label, LinkView, Run, ShareLink, Snapshot
from features.sharing import freezing, links
from tests.factories import NAMED, World
from tests.features.sharing.helpers import BROWSER, INDEX, SECRET, frozen_feature, shared, visitor

TITLE = "Feature 9"
ROBOTS = [
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Slack-ImgProxy (+https://api.slack.com/robots)",
    "Twitterbot/1.0",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "WhatsApp/2.23.20.0",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "TelegramBot (like TwitterBot)",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5 skype-url-preview@microsoft.com",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Teams/1.6.00 Chrome/100 Safari/537.36",
    "Mozilla/5.0 (Macintosh) AppleWebKit/601.2.4 Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "http.rb/5.1.1 (Mastodon/4.2.1; +https://mastodon.example/)",
    "Synapse (bot; +https://github.com/matrix-org/synapse)",
    "Iframely/1.3.1 (+https://iframely.com/docs/about)",
    "",
]
AHEAD = [
    {"sec-purpose": "prefetch"},
    {"sec-purpose": "prefetch;prerender"},
    {"sec-purpose": "prefetch;anonymous-client-ip"},
    {"purpose": "prefetch"},
    {"purpose": "preview"},
    {"x-purpose": "preview"},
    {"x-moz": "prefetch"},
    {"sec-purpose": "", "purpose": "Prefetch"},
]
LOOKS_AHEAD = [{"user-agent": name} for name in ROBOTS] + [{"user-agent": BROWSER} | more for more in AHEAD]


def looker(given: dict[str, str]) -> Client:
    return Client(headers=given)


@pytest.mark.parametrize("given", LOOKS_AHEAD, ids=str)
@pytest.mark.parametrize("password", ["", SECRET])
def test_a_program_that_looks_ahead_is_shown_nothing(given: dict[str, str], password: str, world: World) -> None:
    link, address = shared(world, password=password)
    answer = looker(given).get(address)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert not answer.cookies
    for secret in (TITLE, world.sae.name, link.snapshot.digest[:12], 'type="password"', "<mark", world.user.username):
        assert secret not in page
    archive = looker(given).get(f"{address}/evidence.zip")
    assert archive["Content-Type"].startswith("text/html")
    assert TITLE not in archive.content.decode()
    assert link.views.exists()
    assert not link.views.filter(robot=False).exists()
    shown = ShareLink.objects.with_views().get(pk=link.pk)
    assert (shown.n_views, shown.last_view) == (0, None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", [LOOKS_AHEAD[0], LOOKS_AHEAD[-1]], ids=str)
def test_the_title_is_shown_where_whoever_made_the_link_allowed_it(given: dict[str, str], world: World) -> None:
    _, allowed = shared(world, preview=True)
    page = looker(given).get(allowed).content.decode()
    assert f'property="og:title" content="{TITLE}' in page
    assert world.model.name not in page.replace(world.sae.name, "")
    _, locked = shared(world, preview=True, password=SECRET)
    assert TITLE not in looker(given).get(locked).content.decode(), "what has a password has no title"
    assert TITLE not in visitor().get(locked).content.decode()


@pytest.mark.parametrize("agent", ["CUBOT_X19 Mozilla/5.0", "", "Mozilla/5.0 Teams/1.6"])
def test_a_person_with_such_a_program_presses_the_button(agent: str, world: World) -> None:
    link, address = shared(world)
    client = looker({"user-agent": agent})
    assert 'method="post"' in client.get(address).content.decode()
    assert TITLE in client.post(address).content.decode()
    assert client.post(f"{address}/evidence.zip")["Content-Type"] == "application/zip"
    assert list(link.views.values_list("robot", flat=True)) == [False, False, True]


def test_a_person_with_such_a_program_gives_the_password(world: World) -> None:
    link, address = shared(world, password=SECRET)
    client = looker({"user-agent": "Mozilla/5.0 Teams/1.6"})
    assert 'type="password"' in client.post(address).content.decode()
    assert TITLE in client.post(address, {"password": SECRET}).content.decode()
    assert link.views.filter(robot=False).count() == 1


class Addresses(HTMLParser):
    """All that a page names, loads or sends to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith(("on", "hx-"))]
        names = ("href", "src", "action", "srcset", "poster", "data", "formaction", "ping", "background", "cite")
        self.found += [value or "" for name, value in attrs if name in names]


def test_the_page_names_no_other_address_and_no_other_host(world: World) -> None:
    _, address = shared(world)
    page = visitor().get(address).content.decode()
    seen = Addresses(page)
    assert set(seen.found) - {f"{address}/evidence.zip"} == {f for f in seen.found if f.startswith("/static/")}
    assert not seen.handlers
    assert not seen.tags & {"script", "iframe", "object", "embed", "base", "img", "link:import", "style"}
    token = address.removeprefix("/s/")
    assert page.count(token) == 1, "in the address of the archive alone"
    hosts = re.findall(r"https?://([^/\"'<> ]+)", page)
    assert set(hosts) <= {"www.w3.org"}


def test_every_answer_is_private(world: World) -> None:
    """200, 403, 404, 405, 429, the archive, the preview and what is damaged: with the same headers, and no cookie."""
    _, address = shared(world)
    _, locked = shared(world, password=SECRET)
    client = visitor(raise_request_exception=False)
    answers = [
        client.get(address),
        client.head(address),
        client.post(address),
        client.get(f"{address}/evidence.zip"),
        client.post(f"{address}/evidence.zip"),
        client.put(address),
        client.delete(f"{address}/evidence.zip"),
        client.get("/s/" + "A" * 32),
        client.get("/s/unknown/evidence.zip"),
        client.get(f"{address}/"),
        client.get(f"{address}/more"),
        client.get(locked),
        client.get(f"{locked}/evidence.zip"),
        Client(headers={"user-agent": "Slackbot"}).get(address),
        *[client.post(locked, {"password": "wrong, wrong"}) for _ in range(6)],
    ]
    Snapshot.objects.update(packed=b"broken")
    answers += [client.get(address), client.get(f"{address}/evidence.zip")]
    assert {answer.status_code for answer in answers} == {200, 403, 404, 405, 429, 500}
    for answer in answers:
        assert answer["Referrer-Policy"] == "no-referrer"
        assert answer["Cache-Control"] == "no-store, private"
        assert answer["X-Robots-Tag"] == "noindex, nofollow, noarchive"
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "Cookie" in answer["Vary"]
        policy = answer["Content-Security-Policy"]
        assert "script-src 'none'" in policy
        assert "connect-src 'none'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not answer.cookies


def test_a_form_that_is_too_large_does_no_harm(world: World) -> None:
    _, locked = shared(world, password=SECRET)
    answer = visitor(raise_request_exception=False).post(locked, {"password": "x" * (2 << 20)})
    assert answer.status_code == 400
    assert TITLE not in answer.content.decode()


def test_a_form_without_a_token_against_forgery_is_read(world: World) -> None:
    """It carries no right of anybody who is signed in; a page without a referrer has no origin to be checked."""
    _, locked = shared(world, password=SECRET)
    strict = visitor(enforce_csrf_checks=True)
    assert strict.post(locked, {"password": SECRET}, headers={"origin": "null"}).status_code == 200
    assert strict.post(f"{locked}/evidence.zip", headers={"origin": "null"}).status_code == 200


def _evidence(page: str) -> str:
    """The page without its head: what a frozen thing shows, and not who froze it or what came after."""
    return page[page.index("</header>", page.index("evidence-head")) :]


def _destroy(world: World) -> None:
    """As an operator would: what is counted, then what is said of it, then the SAE itself."""
    Feature.objects.filter(sae=world.sae).update(label=None)
    Label.objects.filter(feature__sae=world.sae).delete()
    Run.objects.filter(sae=world.sae).delete()
    SAE.objects.filter(pk=world.sae.pk).delete()
    world.corpus.delete()
    world.model.delete()
    world.user.delete()


@pytest.mark.parametrize("kind", ["feature", "comparison", "run"])
def test_a_link_outlives_all_that_it_shows(kind: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sae = world.sae.slug
    named: Any = {"feature": {"sae": sae, "index": NAMED}, "run": {"run": world.run.pk}}
    named["comparison"] = {"a": f"{sae}/{INDEX}", "b": f"{sae}/{NAMED}"}
    snapshot = freezing.freeze(kind, named[kind], world.user)
    _, token = links.issue(snapshot, world.user)
    before = visitor().get(f"/s/{token}").content.decode()
    labelling.give([Feature.objects.get(sae=world.sae, index=NAMED)], "something else", world.user)
    assert visitor().get(f"/s/{token}").content.decode() == before
    _destroy(world)
    monkeypatch.setattr("features.sharing.drawn._code", lambda: "another")  # as after an upgrade: drawn anew
    after = visitor().get(f"/s/{token}")
    assert after.status_code == 200
    assert after.content.decode() == before
    assert visitor().get(f"/s/{token}/evidence.zip").status_code == 200


def test_a_newer_snapshot_says_so_and_changes_nothing_of_the_old_one(world: World) -> None:
    snapshot = freezing.freeze("feature", {"sae": world.sae.slug, "index": NAMED}, world.user)
    _, token = links.issue(snapshot, world.user)
    before = visitor().get(f"/s/{token}").content.decode()
    labelling.give([Feature.objects.get(sae=world.sae, index=NAMED)], "something else", world.user)
    newer = freezing.freeze("feature", {"sae": world.sae.slug, "index": NAMED}, world.user)
    after = visitor().get(f"/s/{token}").content.decode()
    assert newer.digest != snapshot.digest
    assert newer.digest in after
    assert newer.digest not in before
    assert _evidence(after) == _evidence(before)
    assert "cities, by Ada" in after
    assert "something else" not in after


def _flip(row: Snapshot, place: int) -> bytes:
    packed = bytearray(row.packed)
    packed[place] ^= 1
    return bytes(packed)


@pytest.mark.parametrize("fault", ["first", "middle", "last", "cut", "empty", "other", "title", "kind", "size"])
def test_what_was_changed_in_the_database_is_shown_nowhere(fault: str, world: World) -> None:
    snapshot = frozen_feature(world)
    other = frozen_feature(world, INDEX + 1)
    _, token = links.issue(snapshot, world.user)
    packed = bytes(Snapshot.objects.get(pk=snapshot.pk).packed)
    row = Snapshot.objects.get(pk=snapshot.pk)
    changes: dict[str, dict[str, Any]] = {
        "first": {"packed": _flip(row, 0)},
        "middle": {"packed": _flip(row, len(packed) // 2)},
        "last": {"packed": _flip(row, len(packed) - 1)},
        "cut": {"packed": packed[:-40]},
        "empty": {"packed": b""},
        "other": {"packed": bytes(Snapshot.objects.get(pk=other.pk).packed)},
        "title": {"title": "Feature 9 is harmless"},
        "kind": {"kind": "run"},
        "size": {"n_bytes": snapshot.n_bytes + 1},
    }
    Snapshot.objects.filter(pk=snapshot.pk).update(**changes[fault])
    owner = Client(headers={"user-agent": BROWSER})
    owner.force_login(world.user)
    page = snapshot.get_absolute_url()
    addresses = [(visitor(), f"/s/{token}"), (visitor(), f"/s/{token}/evidence.zip"), (owner, page)]
    addresses += [(owner, f"{page}evidence.zip"), (owner, f"/api/v1/snapshots/{snapshot.digest}/export")]
    addresses += [] if fault in {"title", "kind", "size"} else [(owner, f"/api/v1/snapshots/{snapshot.digest}")]
    for client, address in addresses:
        answer = client.get(address)
        assert answer.status_code == 500, address
        assert "do not match its digest" in answer.content.decode(), address
        assert "<mark" not in answer.content.decode()
    assert not LinkView.objects.exists(), "nothing was shown"


def test_what_this_version_cannot_show_any_more_is_said_in_a_sentence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade, a link to what an older version froze is a page, not a fault of the server."""
    snapshot = frozen_feature(world)
    _, token = links.issue(snapshot, world.user)
    monkeypatch.setattr("features.sharing.shapes.VERSION", 2)
    monkeypatch.setattr("features.sharing.drawn._code", lambda: "another")
    for address in (f"/s/{token}", f"/s/{token}/evidence.zip"):
        answer = visitor().get(address)
        assert answer.status_code == 500
        assert "this site reads version 2" in answer.content.decode()


def test_a_snapshot_that_is_linked_to_cannot_be_deleted_by_accident(world: World) -> None:
    shared(world)
    with pytest.raises(ProtectedError):
        Snapshot.objects.all().delete()
