"""Freeze and share, the list of evidence, one of them, and the register of links, as pages."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from features.knowledge import collecting
from features.models import Freezing, LinkView, Member, Role, ShareLink, Snapshot
from features.sharing import freezing, links
from tests.factories import World, make_user

INDEX = 9
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0"


@pytest.fixture
def snapshot(world: World) -> Snapshot:
    return freezing.freeze("feature", {"sae": world.sae.slug, "index": INDEX}, world.user)


def signed_in(user: User) -> Client:
    client = Client(headers={"user-agent": BROWSER})
    client.force_login(user)
    return client


def freeze_form(world: World, **more: str) -> dict[str, str]:
    return {"kind": "feature", "sae": world.sae.slug, "index": str(INDEX), **more}


@pytest.mark.parametrize(
    "address",
    ["/saes/{sae}/features/9/", "/runs/{run}/", "/compare/?a={sae}/3&b={sae}/9", "/collections/{collection}/"],
)
def test_every_page_offers_to_freeze_it_and_the_form_does(world: World, client_in: Client, address: str):
    collection = collecting.create(world.user, "Rain")
    address = address.format(sae=world.sae.slug, run=world.run.pk, collection=collection.slug)
    page = client_in.get(address).content.decode()
    form = page[page.index('class="share-form"') :].partition("</form>")[0]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    fields.pop("csrfmiddlewaretoken", None)
    answer = client_in.post(reverse("freeze"), fields)
    assert answer.status_code == 200
    (link,) = ShareLink.objects.all()
    assert (link.expires_at - link.created_at).days in {13, 14}
    shared = re.search(r'value="(http://testserver/s/[\w-]{32})"', answer.content.decode())
    assert shared
    assert Client(headers={"user-agent": BROWSER}).get(shared[1]).status_code == 200


def test_a_viewer_is_offered_nothing_to_share(world: World):
    viewer = make_user("vera")
    Member.objects.create(user=viewer, role=Role.VIEWER)
    client = signed_in(viewer)
    assert b"Freeze and share" not in client.get(f"/saes/{world.sae.slug}/features/{INDEX}/").content
    assert client.post(reverse("freeze"), freeze_form(world)).status_code == 403
    assert not Freezing.objects.exists()


def test_the_secret_is_in_that_answer_alone_and_nobody_keeps_it(world: World, client_in: Client):
    answer = client_in.post(reverse("freeze"), freeze_form(world), headers={"HX-Request": "true"})
    assert answer["Cache-Control"] == "no-store, private"
    token = re.search(r"/s/([\w-]{32})", answer.content.decode())[1]  # type: ignore[index]
    for page in (
        reverse("links"),
        reverse("snapshots"),
        Snapshot.objects.get().get_absolute_url(),
        reverse("link", args=[1]),
    ):
        assert token not in client_in.get(page).content.decode()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("days", "0", "A link ends after 1 to 365 days."),
        ("days", "366", "A link ends after 1 to 365 days."),
        ("days", "soon", "A link ends after 1 to 365 days."),
        ("days", "1" * 40, "A link ends after 1 to 365 days."),
        ("password", "short", "A password has 8 to 200 characters"),
        ("note", "a\u202eb", "cannot hold the invisible character U+202E"),
        ("note", "x" * 201, "A note can have 200 characters"),
        ("kind", "<b>", "There is nothing of the kind “&lt;b&gt;”"),
        ("index", "-1", "index is a number"),
        ("run", "x", "run is a number"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    world: World, client_in: Client, field: str, value: str, sentence: str
):
    answer = client_in.post(reverse("freeze"), freeze_form(world) | {field: value})
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not ShareLink.objects.exists()


def test_a_feature_that_is_not_there_is_not_found(world: World, client_in: Client):
    answer = client_in.post(reverse("freeze"), freeze_form(world) | {"index": "999999"})
    assert answer.status_code == 404
    assert "This SAE has no feature 999999" in answer.content.decode()


def test_the_snapshot_says_who_froze_it_and_what_leads_to_it(world: World, client_in: Client, snapshot: Snapshot):
    links.issue(snapshot, world.user, note="for the incident")
    page = client_in.get(snapshot.get_absolute_url()).content.decode()
    assert snapshot.digest in page
    assert "by <bdi>ada</bdi>" in page
    assert "for the incident" in page


def test_pages_cost_few_queries(world: World, client_in: Client, snapshot: Snapshot, django_assert_max_num_queries):
    for _ in range(12):
        link, _ = links.issue(snapshot, world.user)
        LinkView.objects.create(link=link)
    for page in (reverse("snapshots"), reverse("links"), snapshot.get_absolute_url(), reverse("link", args=[link.pk])):
        with django_assert_max_num_queries(8):
            assert client_in.get(page).status_code == 200


def test_the_shared_page_costs_five_queries(world: World, snapshot: Snapshot, django_assert_max_num_queries):
    _, token = links.issue(snapshot, world.user)
    with django_assert_max_num_queries(5):
        assert Client(headers={"user-agent": BROWSER}).get(f"/s/{token}").status_code == 200


def test_lists_go_on_where_a_page_ends(world: World, client_in: Client, snapshot: Snapshot):
    for _ in range(52):
        links.issue(snapshot, world.user)
    page = client_in.get(reverse("links")).content.decode()
    older = re.search(r'href="(\?before=\d+)"', page)
    assert older
    assert page.count("<tr class") == 50
    assert client_in.get(reverse("links") + older[1]).content.decode().count("<tr class") == 2
    assert client_in.get(reverse("links") + "?before=x").status_code == 200
    assert client_in.get(reverse("snapshots") + "?before=" + "9" * 30).status_code == 200


def test_taking_a_link_back_ends_it_and_says_who_did(world: World, client_in: Client, snapshot: Snapshot):
    link, token = links.issue(snapshot, world.user)
    visitor = Client(headers={"user-agent": BROWSER})
    assert visitor.get(f"/s/{token}").status_code == 200
    answer = client_in.post(reverse("link_revoke", args=[link.pk]), {"next": "links"}, follow=True)
    assert f"Link {link.pk} is taken back" in answer.content.decode()
    assert visitor.get(f"/s/{token}").status_code == 404
    assert ShareLink.objects.get().revoked_by == "ada"
    assert "taken back" in client_in.get(reverse("link", args=[link.pk])).content.decode()
    assert "taken back" not in client_in.get(reverse("links") + "?alive=1").content.decode()


def test_administrators_see_and_take_back_all_links_others_their_own(world: World, snapshot: Snapshot):
    grace, root = make_user("grace"), make_user("root", is_staff=True)
    link, _ = links.issue(snapshot, world.user)
    own = signed_in(grace)
    assert f'href="/links/{link.pk}/"' not in own.get(reverse("links")).content.decode()
    assert own.get(reverse("link", args=[link.pk])).status_code == 404
    assert own.post(reverse("link_revoke", args=[link.pk])).status_code == 404
    assert ShareLink.objects.alive().count() == 1
    administrator = signed_in(root)
    assert f'href="/links/{link.pk}/"' in administrator.get(reverse("links")).content.decode()
    administrator.post(reverse("link_revoke", args=[link.pk]))
    assert ShareLink.objects.alive().count() == 0


def test_an_outsider_sees_none_of_these_pages(snapshot: Snapshot, anonymous: Client):
    for page in (reverse("snapshots"), reverse("links"), snapshot.get_absolute_url(), reverse("receive")):
        assert anonymous.get(page).status_code == 302


def test_the_key_of_the_site_is_public(anonymous: Client, db: None):
    answer = anonymous.get("/evidence-key")
    assert answer.status_code == 200
    assert answer.content.startswith(b"-----BEGIN PUBLIC KEY-----")
