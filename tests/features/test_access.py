"""Nobody sees a page without signing in."""

import pytest
from django.test import Client

from features.models import ApiKey
from tests import factories
from tests.factories import World

PAGES = [
    "/",
    "/go/?q=river",
    "/saes/tiny-lm-l6/",
    "/saes/tiny-lm-l6/plots/density.json",
    "/saes/tiny-lm-l6/features/",
    "/saes/tiny-lm-l6/features/5/",
    "/saes/tiny-lm-l6/features/5/contexts/0/",
    "/saes/tiny-lm-l6/map/",
    "/saes/tiny-lm-l6/map/data/",
    "/models/",
    "/models/tiny-lm/",
    "/runs/1/",
    "/search/?q=river",
    "/compare/",
    "/compare/runs/",
    "/compare/saes/",
    "/collections/",
    "/account/keys/",
]


@pytest.mark.parametrize("address", PAGES)
def test_an_outsider_is_sent_to_sign_in(address: str, world: World, anonymous: Client) -> None:
    answer = anonymous.get(address)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/?next=")


@pytest.mark.parametrize(
    "address", ["/saes/nope/", "/saes/tiny-lm-l6/features/24/", "/runs/99/", "/saes/nope/features/", "/models/nope/"]
)
def test_what_is_not_there_says_so(address: str, world: World, client_in: Client) -> None:
    answer = client_in.get(address)
    assert answer.status_code == 404
    assert b"There is nothing at this address" in answer.content


@pytest.mark.parametrize("number", [2**31, 2**63, 10**40, int("9" * 4000)])
def test_numbers_beyond_what_a_database_holds_are_not_found(number: int, world: World, client_in: Client) -> None:
    feature = "/saes/tiny-lm-l6/features"
    for address in (
        f"/runs/{number}/",
        f"{feature}/{number}/",
        f"{feature}/5/contexts/{number}/",
        f"{feature}/5/?run={number}",
        f"/saes/tiny-lm-l6/plots/density.json?run={number}",
    ):
        assert client_in.get(address).status_code == 404, address
    assert client_in.post(f"/account/keys/{number}/revoke/").status_code == 404
    assert client_in.get(f"/go/?sae=tiny-lm-l6&q={number}", follow=True).status_code == 200
    assert client_in.get(f"{feature}/?q={number}").status_code == 200


@pytest.mark.parametrize("text", ["a", "%00", "a%00b", "%FF%FE", "%ED%A0%80", "%25_%5C", "%C2%B2", "x" * 10_000])
@pytest.mark.parametrize("name", ["q", "after", "before", "order", "state", "density_min", "run"])
def test_no_text_in_an_address_is_an_error_of_the_site(name: str, text: str, world: World, client_in: Client) -> None:
    expected = 404 if name == "run" else 200
    assert client_in.get(f"/saes/tiny-lm-l6/features/?{name}={text}").status_code == expected
    assert client_in.get(f"/go/?q=a&sae={text}", follow=True).status_code == 200
    assert client_in.get(f"/go/?q={text}", follow=True).status_code == 200


def test_a_run_of_another_sae_is_not_found(world: World, client_in: Client) -> None:
    other = factories.make_run(factories.make_sae(world.model, "other"), world.corpus)
    for page in ("", "features/", "features/5/", "features/5/contexts/0/", "plots/density.json"):
        assert client_in.get(f"/saes/tiny-lm-l6/{page}?run={other.pk}").status_code == 404
    assert client_in.get(f"/saes/tiny-lm-l6/?run={world.run.pk}").status_code == 200
    for wrong in (other.pk + 1, "x", "-1", "1" * 30):
        assert client_in.get(f"/saes/tiny-lm-l6/?run={wrong}").status_code == 404


def test_pages_cannot_be_posted_to(world: World, client_in: Client) -> None:
    assert client_in.post("/saes/tiny-lm-l6/").status_code == 405


def test_a_key_of_somebody_else_cannot_be_revoked(world: World, user: object, client_in: Client) -> None:
    key, _ = ApiKey.objects.issue(user, "theirs")
    assert client_in.post(f"/account/keys/{key.pk}/revoke/").status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None
