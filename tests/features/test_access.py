"""Nobody sees a page without signing in."""

import pytest
from django.test import Client

from features.models import ApiKey
from tests.factories import World

PAGES = [
    "/",
    "/go/?q=river",
    "/saes/tiny-lm-l6/",
    "/saes/tiny-lm-l6/plots/density.json",
    "/saes/tiny-lm-l6/features/",
    "/saes/tiny-lm-l6/features/5/",
    "/saes/tiny-lm-l6/features/5/contexts/0/",
    "/runs/1/",
    "/account/keys/",
]


@pytest.mark.parametrize("address", PAGES)
def test_an_outsider_is_sent_to_sign_in(address: str, world: World, anonymous: Client) -> None:
    answer = anonymous.get(address)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/?next=")


@pytest.mark.parametrize(
    "address", ["/saes/nope/", "/saes/tiny-lm-l6/features/24/", "/runs/99/", "/saes/nope/features/"]
)
def test_what_is_not_there_says_so(address: str, world: World, client_in: Client) -> None:
    answer = client_in.get(address)
    assert answer.status_code == 404
    assert b"There is nothing at this address" in answer.content


def test_a_run_of_another_sae_is_not_found(world: World, client_in: Client) -> None:
    assert client_in.get(f"/saes/tiny-lm-l6/?run={world.run.pk}").status_code == 200
    for wrong in (world.run.pk + 1, "x", "-1", "1" * 30):
        assert client_in.get(f"/saes/tiny-lm-l6/?run={wrong}").status_code == 404


def test_pages_cannot_be_posted_to(world: World, client_in: Client) -> None:
    assert client_in.post("/saes/tiny-lm-l6/").status_code == 405


def test_a_key_of_somebody_else_cannot_be_revoked(world: World, user: object, client_in: Client) -> None:
    key, _ = ApiKey.objects.issue(user, "theirs")
    assert client_in.post(f"/account/keys/{key.pk}/revoke/").status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None
