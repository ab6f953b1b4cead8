"""A feature's page, and the full context of an example."""

import html
import re
from typing import Any

import pytest
from django.test import Client

from features.models import Activity, Context
from features.store.contexts import unpack_ids
from features.store.examples import unpack_examples
from tests import factories
from tests.factories import BLANKS, DEAD, HOSTILES, NAMED, SPLITS, TIED, World

FEATURES = "/saes/tiny-lm-l6/features/"


def page_of(client: Client, index: int) -> str:
    return client.get(f"{FEATURES}{index}/").content.decode()


def test_statistics_come_with_their_denominator(world: World, client_in: Client) -> None:
    activity = Activity.objects.get(index=TIED)
    page = page_of(client_in, TIED)
    assert f"1 in {1 / activity.density:,.0f} tokens, N = {world.run.n_tokens:,}" in page
    assert f"of {world.run.n_contexts}" in page
    assert page.count("<h1") == 1
    assert "style=" not in page


def test_examples_stand_in_bands_strongest_first(world: World, client_in: Client) -> None:
    bands = client_in.get(f"{FEATURES}{TIED}/").context["bands"]
    assert bands[0].name == "top"
    assert len(bands) > 2
    strongest = [band.examples[0].value for band in bands]
    assert strongest == sorted(strongest, reverse=True)


def test_a_dead_feature_says_what_is_known(world: World, client_in: Client) -> None:
    page = html.unescape(page_of(client_in, DEAD)).replace("\xa0", " ")
    assert f"never fired in {world.run.n_tokens:,} tokens" in page
    bound = 100 * 3 / world.run.n_tokens
    assert f"below about {bound:.2g} % at 95 %" in page
    assert "<mark" not in page
    assert "Nearest decoder directions" in page


def test_hostile_text_is_escaped_everywhere(world: World, client_in: Client) -> None:
    page = page_of(client_in, HOSTILES)
    assert "<script>alert" not in page
    assert "<b>1912" not in page
    assert "letters/&lt;b&gt;1912" in page
    assert "\u202e" not in page_of(client_in, BLANKS)


def test_a_character_split_over_tokens_is_whole(world: World, client_in: Client) -> None:
    page = page_of(client_in, SPLITS)
    passages = "".join(re.findall(r'<p class="passage".*?</p>', page, re.S))
    assert "<bdi>語</bdi></mark>" in passages
    assert "\ufffd" not in passages
    assert re.search(r"“語” · ids \d+, \d+, \d+ · positions \d+-\d+ · ", passages)


def test_next_and_previous_end_at_the_ends(world: World, client_in: Client) -> None:
    first, last = page_of(client_in, 0), page_of(client_in, 23)
    assert 'rel="prev"' not in first
    assert f'rel="next" href="{FEATURES}1/"' in first
    assert 'rel="next"' not in last


def test_links_stay_with_the_chosen_run(world: World, client_in: Client) -> None:
    page = client_in.get(f"{FEATURES}{TIED}/?run={world.run.pk}").content.decode()
    assert f'rel="next" href="{FEATURES}{TIED + 1}/?run={world.run.pk}"' in page


def test_the_page_of_a_run_that_is_not_valid_says_so(world: World, client_in: Client) -> None:
    bad = factories.make_run(world.sae, world.corpus, valid=False, why_not_valid="explained variance 0.1")
    factories.fill_run(bad, list(world.sae.features.order_by("index")), 6)
    number = next(iter(unpack_examples(bytes(Activity.objects.get(run=bad, index=TIED).examples)))).context
    for address in ("", f"{TIED}/", f"{TIED}/contexts/{number}/"):
        assert b"NOT VALID FOR THIS MODEL" in client_in.get(FEATURES + address).content
        assert b"NOT VALID" not in client_in.get(f"{FEATURES}{TIED}/?run={world.run.pk}").content


def test_one_token_of_an_example_is_in_the_tab_order(world: World, client_in: Client) -> None:
    for example in re.findall(r'<p class="passage".*?</p>', page_of(client_in, TIED), re.S):
        assert example.count('tabindex="0"') == 1


def test_the_full_context_shows_every_token(world: World, client_in: Client) -> None:
    activity = Activity.objects.get(index=NAMED)
    example = next(iter(unpack_examples(bytes(activity.examples))))
    address = f"{FEATURES}{NAMED}/contexts/{example.context}/"
    part = client_in.get(address, headers={"HX-Request": "true"}).content.decode()
    spans = re.findall(r" · positions? (\d+)(?:-(\d+))? · ", part)
    shown = [position for first, last in spans for position in range(int(first), int(last or first) + 1)]
    row = Context.objects.get(run=world.run, number=example.context)
    assert shown == list(range(len(unpack_ids(bytes(row.token_ids)))))
    assert part.count("<mark") == len(example.positions)
    whole = client_in.get(address).content.decode()
    assert "<html" in whole
    folded = client_in.get(address + "?fold=1", headers={"HX-Request": "true"}).content.decode()
    assert "Full context" in folded


def test_a_context_that_is_no_example_is_not_found(world: World, client_in: Client) -> None:
    assert client_in.get(f"{FEATURES}{DEAD}/contexts/0/").status_code == 404
    assert client_in.get(f"{FEATURES}{TIED}/contexts/9999/").status_code == 404


@pytest.mark.parametrize("index", [DEAD, TIED, NAMED])
def test_queries_are_few_and_fixed(
    index: int, world: World, client_in: Client, django_assert_max_num_queries: Any
) -> None:
    client_in.get("/saes/tiny-lm-l6/features/1/")
    with django_assert_max_num_queries(8):
        page_of(client_in, index)
