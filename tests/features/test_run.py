"""A run's page: its figures, what they rest on, and the work behind them."""

import importlib
import json
import re
from html import unescape
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client

from features.models import Run
from jobs.models import Job
from tests import factories
from tests.factories import World

CROSS_ENTROPY: dict[str, Any] = {
    "n_ce_contexts": 4,
    "n_ce_tokens": 508,
    "ce_original": 3.4297,
    "ce_reconstructed": 3.7226,
    "ce_ablated": 11.2615,
    "ce_delta": 0.2929,
    "ce_delta_error": 0.0441,
    "ce_recovered": 0.9626,
    "kl_reconstructed": 0.4723,
    "kl_ablated": 8.3173,
    "kl_recovered": 0.9432,
}


def shard(number: int, **facts: Any) -> dict[str, Any]:
    known = {"number": number, "tokens": 4096, "seconds": 2.0, "worker": f"node-{number % 3}:812", "device": "cpu"}
    return known | {"attempts": 1, "note": ""} | facts


def page_of(run: Run, client: Client) -> str:
    """The page as text: one space between any two words, and no tags."""
    answer = client.get(run.get_absolute_url())
    assert answer.status_code == 200
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.content.decode())).replace("\xa0", " ").split())


def test_every_figure_is_there_with_what_it_rests_on(world: World, client_in: Client) -> None:
    run = factories.make_run(world.sae, world.corpus, n_contexts=2048, n_pool_tokens=32_000, **CROSS_ENTROPY)
    page = page_of(run, client_in)
    for figure in ("0.830", "0.170", "7.6", "0.930", "0.940", "0.963", "+0.293 ± 0.044", "0.943"):
        assert f" {figure} " in page
    for loss in ("3.430 as the model is", "3.723 with the SAE's output", "11.262 with zeros", "0.472 nats", "8.317"):
        assert loss in page
    assert "508 predictions in 4 of the 2,048 contexts" in page
    assert "random sample of 32,000" in page


def test_a_run_without_cross_entropy_says_that_it_has_none(world: World, client_in: Client) -> None:
    page = page_of(world.run, client_in)
    assert "Cross entropy was not measured" in page
    assert "Cross entropy recovered" not in page


def test_what_ablation_does_not_cost_cannot_be_recovered(world: World, client_in: Client) -> None:
    none: dict[str, Any] = {"ce_recovered": None, "kl_recovered": None, "ce_delta_error": None}
    page = page_of(factories.make_run(world.sae, world.corpus, **(CROSS_ENTROPY | none)), client_in)
    assert "zeros cost nothing" in page
    assert "None" not in page


def test_tokens_and_features_come_with_their_shares(world: World, client_in: Client) -> None:
    counts: dict[str, Any] = {
        "n_tokens": 900,
        "n_special": 60,
        "n_sinks": 40,
        "n_alive": 18,
        "n_dense": 6,
        "n_very_dense": 3,
    }
    settings = {"context": 64, "skip_first": 1}
    page = page_of(factories.make_run(world.sae, world.corpus, settings=settings, **counts), client_in)
    for part in ("900 90.0 %", "60 6.0 %", "40 4.0 %", "18 75.0 %", "6 25.0 %", "3 12.5 %"):
        assert part in page
    assert "Sinks and skipped" in page
    assert "the first position of each context" in page
    assert "1,000 were read" in page
    assert "400 tokens/s" in page  # in 2.5 s


def test_nothing_that_was_read_is_no_error(world: World, client_in: Client) -> None:
    assert "valid" in page_of(factories.make_run(world.sae, world.corpus, n_tokens=0, seconds=0.0), client_in)


@pytest.mark.parametrize("n", [1, 64, 200])
def test_every_shard_has_its_row(n: int, world: World, client_in: Client) -> None:
    work = [shard(i) for i in range(n)]
    work[0] |= {"attempts": 2, "note": "a damaged file was made anew"}
    page = page_of(factories.make_run(world.sae, world.corpus, work=work), client_in)
    assert page.count("4,096 2.00 2,048") == n
    assert "1 had to be read more than once" in page
    assert "a damaged file was made anew" in page
    assert f"read by {min(n, 3)} worker" in page


def test_a_shard_that_took_no_time_and_one_with_little_known(world: World, client_in: Client) -> None:
    work = [shard(0, seconds=0.0), {"number": 1, "tokens": 5, "seconds": None}, shard(2, worker=factories.HOSTILE)]
    run = factories.make_run(world.sae, world.corpus, work=work)
    assert "None" not in page_of(run, client_in)
    assert factories.HOSTILE not in client_in.get(run.get_absolute_url()).content.decode()


def test_the_provenance_is_there_in_full(world: World, client_in: Client) -> None:
    job = Job.objects.create(settings={}, run=world.run, state=Job.State.DONE)
    page = client_in.get(world.run.get_absolute_url()).content.decode()
    for fact in ("cpu (x86_64)", "float32", "CC0-1.0", f'"/jobs/{job.pk}/"', "2.13.0"):
        assert fact in page
    model = world.model
    for digest in (model.weights_digest, model.tokenizer_digest, world.sae.digest, world.corpus.digest):
        assert f">{digest}</code>" in page  # without JavaScript, too


def test_the_record_is_json_of_all_of_it(world: World, client_in: Client) -> None:
    page = client_in.get(world.run.get_absolute_url()).content.decode()
    found = re.search(r"<pre[^>]*>(.*)</pre>", page, re.DOTALL)
    assert found
    record = json.loads(unescape(found[1]))
    assert record["settings"] == world.run.settings
    assert record["provenance"] == world.run.provenance
    assert record["model"]["weights_digest"] == world.model.weights_digest
    assert record["sae"]["digest"] == world.sae.digest
    assert record["corpus"]["digest"] == world.corpus.digest


def test_an_outsider_is_sent_to_sign_in(world: World, anonymous: Client) -> None:
    answer = anonymous.get(world.run.get_absolute_url())
    assert (answer.status_code, answer["Location"]) == (302, f"/login/?next=/runs/{world.run.pk}/")


def test_whoever_is_signed_in_may_look(world: World, user: User, client: Client) -> None:
    client.force_login(user)
    assert client.get(world.run.get_absolute_url()).status_code == 200


def test_more_shards_cost_no_more_queries(world: World, client_in: Client, django_assert_num_queries: Any) -> None:
    run = factories.make_run(world.sae, world.corpus, world.user, work=[shard(i) for i in range(64)])
    with django_assert_num_queries(4):  # session, user, run, jobs
        client_in.get(run.get_absolute_url())


def test_runs_from_before_are_completed_by_the_migration(world: World) -> None:
    """What activities tell is counted, and what was half a sentence becomes one."""
    Run.objects.update(valid=False, why_not_valid="L0 9 is far from k")
    complete = importlib.import_module("features.migrations.0003_run_quality").complete
    complete(apps, None)
    complete(apps, None)
    world.run.refresh_from_db()
    dense = [a for a in world.run.activities.all() if a.density > 0.1]
    assert world.run.n_very_dense == len(dense) > 0
    assert world.run.reasons == ["L0 9 is far from k."]
