"""The box in the header."""

import pytest
from django.test import Client

from features.models import Feature
from tests import factories
from tests.factories import TIED_TOO, World


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("q=tiny-lm-l6/5", "/saes/tiny-lm-l6/features/5/"),
        ("q=+tiny-lm-l6/5+", "/saes/tiny-lm-l6/features/5/"),
        ("q=7&sae=tiny-lm-l6", "/saes/tiny-lm-l6/features/7/"),
        ("q=tiny-lm-l6", "/saes/tiny-lm-l6/"),
        ("q=cities,+by+Ada", "/saes/tiny-lm-l6/features/7/"),
        ("q=+river+banks", "/search/?q=river+banks"),
        ("q=", "/search/"),
    ],
)
def test_it_goes_straight_to_what_is_meant(query: str, place: str, world: World, client_in: Client) -> None:
    assert client_in.get(f"/go/?{query}")["Location"] == place


def test_a_label_of_several_features_is_searched_for(world: World, client_in: Client) -> None:
    factories.make_label(Feature.objects.get(index=TIED_TOO), "cities, by Ada", author=world.user)
    assert client_in.get("/go/?q=cities,+by+Ada")["Location"] == "/search/?q=cities%2C+by+Ada"


@pytest.mark.parametrize("text", ["nothing+like+it", "tiny-lm-l6/99", "nope/1", "%3Cscript%3E/1", "a%00b", "7"])
def test_what_is_no_place_is_searched_for(text: str, world: World, client_in: Client) -> None:
    answer = client_in.get(f"/go/?q={text}&sae=%00", follow=True)
    assert answer.redirect_chain[0][0].startswith("/search/?q=")
    assert answer.status_code == 200
    assert b"<script>/1" not in answer.content
