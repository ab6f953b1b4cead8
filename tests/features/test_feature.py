"""A feature's page, and the full context of an example."""

import html
import re
from typing import Any

import pytest
from django.test import Client

from features.models import Activity, Context, Run
from features.store.contexts import unpack_tokens
from features.store.examples import NEAR_MISS, SILENT, Example, unpack_examples
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
    assert not re.search(r'<mark class="a[1-9]', page)
    assert "Nearest decoder directions" in page
    assert "No feature, as far as the sample tells." in page


def contexts_of(index: int, band: int) -> list[Example]:
    examples = unpack_examples(bytes(Activity.objects.get(index=index).examples))
    return [example for example in examples if example.band == band]


def test_where_it_nearly_fired_stands_after_the_examples(world: World, client_in: Client) -> None:
    page = page_of(client_in, NAMED)
    near = page[page.index("Near misses") : page.index(">Silent ")]
    assert page.index("Quantiles") < page.index("Near misses")
    assert near.count("<mark") == near.count('<mark class="a0 peak"') == len(contexts_of(NAMED, NEAR_MISS)) == 2
    assert near.count("position 3 · pre-activation -0.250") == near.count('title="pre-activation">-0.250<') == 2


def test_silent_contexts_have_no_marks(world: World, client_in: Client) -> None:
    page = page_of(client_in, NAMED)
    silent = page[page.index(">Silent ") : page.index('<div class="weights">')]
    assert silent.count("<article") == len(contexts_of(NAMED, SILENT)) == 2
    assert "<mark" not in silent
    assert 'class="value"' not in silent


@pytest.mark.parametrize("band", [NEAR_MISS, SILENT])
def test_a_context_in_which_it_is_silent_opens_too(world: World, client_in: Client, band: int) -> None:
    example = contexts_of(NAMED, band)[0]
    part = client_in.get(f"{FEATURES}{NAMED}/contexts/{example.context}/").content.decode()
    assert part.count("<mark") == len(example.positions)
    assert "It did not fire here." in part
    assert "<script>alert" not in part


def test_features_that_fire_together_come_with_their_sample(world: World, client_in: Client) -> None:
    answer = client_in.get(f"{FEATURES}{NAMED}/")
    page = answer.content.decode()
    partners = answer.context["relatives"].partners
    assert len(partners) == 2
    section = page[page.index("Fires together with") : page.index("Nearest decoder directions")]
    assert "Counted on 500 randomly sampled tokens." in section
    for partner in partners:
        assert f'href="{FEATURES}{partner.feature.index}/"' in section
        assert f"{partner.value:.3f}" in section


def test_neighbours_by_encoder_are_their_own_list(world: World, client_in: Client) -> None:
    answer = client_in.get(f"{FEATURES}{NAMED}/")
    page, relatives = answer.content.decode(), answer.context["relatives"]
    section = page[page.index("Nearest encoder directions") :]
    links = [int(i) for i in re.findall(rf'<th scope="row" class="num"><a href="{FEATURES}(\d+)/"', section)]
    assert links == [near.feature.index for near in relatives.encoder]
    assert links != [near.feature.index for near in relatives.decoder]


def test_the_same_label_in_other_saes(world: World, client_in: Client) -> None:
    others = [factories.make_sae(world.model, f"other-{layer}", layer=layer) for layer in (9, 3)]
    for sae in others:
        features = factories.make_features(sae)
        factories.make_label(features[4], "cities, by Ada", author=world.user)
        factories.make_label(features[5], "cities", author=world.user)
    elsewhere = factories.make_sae(factories.make_model("other-lm"), "elsewhere")
    factories.make_label(factories.make_features(elsewhere)[1], "cities, by Ada", author=world.user)
    answer = client_in.get(f"{FEATURES}{NAMED}/")
    found = answer.context["relatives"].elsewhere
    assert [(f.sae.slug, f.index) for f in found] == [("other-3", 4), ("other-9", 4)]
    assert 'href="/saes/other-3/features/4/"' in answer.content.decode()
    assert "In other SAEs" not in page_of(client_in, TIED)
    assert "In other SAEs" not in page_of(client_in, DEAD)


def test_what_is_copied_has_an_address_of_its_own(world: World, client_in: Client) -> None:
    page = client_in.get(f"{FEATURES}{NAMED}/?run={world.run.pk}").content.decode()
    for address in re.findall(r'data-copy-from="([^"]+)"', page):
        assert client_in.get(html.unescape(address)).headers["Content-Type"].startswith("application/json")
    assert f'data-copy-from="/api/v1{FEATURES}{NAMED}?run={world.run.pk}"' in page


def test_an_outsider_is_sent_to_sign_in(world: World, anonymous: Client) -> None:
    assert anonymous.get(f"{FEATURES}{NAMED}/")["Location"].startswith("/login/")


def test_a_run_from_before_there_was_a_sample_says_nothing_of_partners(world: World, client_in: Client) -> None:
    Run.objects.update(n_pool_tokens=0)
    Activity.objects.update(partners=b"")
    assert "Fires together" not in page_of(client_in, NAMED)


def test_experts_come_with_their_share_and_lift(world: World, client_in: Client) -> None:
    assert "Experts chosen" not in page_of(client_in, NAMED)  # a dense model
    run = factories.make_run(world.sae, world.corpus, experts=factories.ROUTER)
    factories.fill_run(run, list(world.sae.features.order_by("index")), 6)
    answer = client_in.get(f"{FEATURES}{NAMED}/?run={run.pk}")
    page = answer.content.decode()
    section = page[page.index("Experts chosen when it fires") : page.index("Nearest decoder directions")]
    assert len(answer.context["experts"]) == 2
    for expert in answer.context["experts"]:
        assert expert.lift == pytest.approx(expert.share / factories.ROUTER["shares"][expert.number])
        assert f'<th scope="row" class="num">{expert.number}</th>' in section
        assert f'<rect width="{expert.share:.3f}"' in section
        assert f'<line x1="{factories.ROUTER["shares"][expert.number]:.3f}"' in section
    assert "the router of layer 6" in section
    assert "2 of 4" in section
    dead = client_in.get(f"{FEATURES}{DEAD}/?run={run.pk}").content.decode()
    assert "None, on three or more of its firing tokens." in dead


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
    assert shown == list(range(len(unpack_tokens(bytes(row.token_ids)))))
    assert part.count("<mark") == len(example.positions)
    whole = client_in.get(address).content.decode()
    assert "<html" in whole
    folded = client_in.get(address + "?fold=1", headers={"HX-Request": "true"}).content.decode()
    assert "Full context" in folded


def test_a_context_that_is_no_example_is_not_found(world: World, client_in: Client) -> None:
    assert client_in.get(f"{FEATURES}{DEAD}/contexts/39/").status_code == 404
    assert client_in.get(f"{FEATURES}{TIED}/contexts/9999/").status_code == 404


@pytest.mark.parametrize("index", [DEAD, TIED, NAMED])
def test_queries_are_few_and_fixed(
    index: int, world: World, client_in: Client, django_assert_max_num_queries: Any
) -> None:
    client_in.get("/saes/tiny-lm-l6/features/1/")
    with django_assert_max_num_queries(7):  # session, user, run, activity, people, neighbours, contexts
        page_of(client_in, index)
