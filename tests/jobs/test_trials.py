"""“Try it” as a person meets it: asking, waiting, the answer, and who sees it."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from redis import Redis

from features.models import SAE, Activity
from features.store.contexts import pack_tokens
from jobs import sweep, trials
from jobs.models import Trial, Worker
from tests import factories
from tests.factories import HOSTILE, IDS, NAMED, World
from tests.jobs.conftest import signed_in
from tests.jobs.test_models import long_ago
from tests.jobs.test_services import sent

HTMX = {"HX-Request": "true"}
IDLE = {"host": "node", "pid": 8, "queues": ["interactive"]}


@pytest.fixture
def url(world: World) -> str:
    return reverse("try", args=[world.sae.slug, NAMED])


@pytest.fixture
def mine(world: World, owner: User) -> Trial:
    return Trial.objects.create(sae=world.sae, index=NAMED, text="a river", owner=owner)


def answered(trial: Trial, values: list[float], **provenance: Any) -> Trial:
    """``trial`` as a worker leaves it: one word a value."""
    ids = [factories.BOS, *[IDS[b" river"], IDS[b" cell"], IDS[HOSTILE.encode()]][: len(values) - 1]]
    said: dict[str, Any] = {"run": None, "sinks": [], "near": None, "n_tokens": len(ids), "loading": 0.0}
    trial.token_ids, trial.result = pack_tokens(ids), np.array(values, "<f4").tobytes()
    trial.provenance, trial.state, trial.seconds = said | provenance, Trial.State.DONE, 0.0512
    trial.worker, trial.device = "node:8:a1", "cpu (x86_64)"
    trial.save()
    return trial


def waiting_for(trial: Trial, seconds: float) -> None:
    Trial.objects.filter(pk=trial.pk).update(created_at=timezone.now() - timedelta(seconds=seconds))


def get(client: Client, trial: Trial, htmx: bool = True) -> str:
    response = client.get(trial.get_absolute_url(), headers=HTMX if htmx else {})
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.django_db(transaction=True)
class TestAsking:
    def test_the_fragment_polls_and_the_message_names_the_trial_alone(
        self, url: str, as_owner: Client, broker: Redis
    ) -> None:
        response = as_owner.post(url, {"text": "a\r\nriver"}, headers=HTMX)
        trial = Trial.objects.get()
        assert (trial.text, trial.index, trial.owner and trial.owner.username) == ("a\nriver", NAMED, "owner")
        page = response.content.decode()
        assert f'hx-get="{trial.get_absolute_url()}" hx-trigger="load delay:150ms' in page and "<html" not in page
        assert sent(broker, "interactive") == [("jobs.tasks.try_text", [[trial.pk], {}])]

    def test_without_javascript_a_page_of_its_own_waits(self, url: str, as_owner: Client, broker: Redis) -> None:
        response = as_owner.post(url, {"text": "a river"}, follow=True)
        assert response.redirect_chain == [(Trial.objects.get().get_absolute_url(), 302)]
        assert '<noscript><meta http-equiv="refresh"' in response.content.decode()

    def test_the_same_text_on_its_way_is_not_asked_for_twice(self, url: str, as_owner: Client, broker: Redis) -> None:
        for _ in range(2):
            as_owner.post(url, {"text": "a river"})
        assert Trial.objects.count() == 1

    @pytest.mark.parametrize("htmx", [True, False])
    @pytest.mark.parametrize(
        ("text", "said"),
        [("", "There is no text"), ("x" * 4001, "The text has 4,001 characters"), ("a\0b", "NUL")],
    )
    def test_what_is_no_text_is_refused_and_kept(
        self, url: str, as_owner: Client, broker: Redis, text: str, said: str, htmx: bool
    ) -> None:
        response = as_owner.post(url, {"text": text}, headers=HTMX if htmx else {})
        page = response.content.decode()
        assert response.status_code == 422 and said in page
        assert htmx or f"\n{text.replace(chr(0), '')}</textarea>" in page  # whole, for another try
        assert not Trial.objects.exists() and not broker.llen("interactive")

    def test_a_few_may_wait_and_no_more(self, url: str, as_owner: Client, as_member: Client, broker: Redis) -> None:
        for number in range(trials.MAX_LIVE):
            assert as_owner.post(url, {"text": f"text {number}"}).status_code == 302
        response = as_owner.post(url, {"text": "one more"})
        assert response.status_code == 429 and "5 of your texts are waiting" in response.content.decode()
        assert "one more" in response.content.decode()
        assert as_member.post(url, {"text": "one more"}).status_code == 302

    @pytest.mark.parametrize("htmx", [True, False])
    def test_without_a_queue_the_text_is_kept_and_the_page_says_so(
        self, url: str, as_owner: Client, no_broker: None, htmx: bool
    ) -> None:
        response = as_owner.post(url, {"text": "a river"}, headers=HTMX if htmx else {})
        page = response.content.decode()
        assert response.status_code == 503 and "The queue (Redis) cannot be reached" in page
        assert "delay:3000ms" in page and "Sent to the workers" not in page  # so the sentence stays to be read
        assert Trial.objects.get().state == Trial.State.WAITING
        assert htmx or "\na river</textarea>" in page

    def test_an_imported_sae_says_at_once_that_it_cannot(self, url: str, as_owner: Client, broker: Redis) -> None:
        SAE.objects.update(digest="")
        response = as_owner.post(url, {"text": "a river"}, headers=HTMX)
        assert response.status_code == 409 and "its weights are not on this site" in response.content.decode()
        assert "its weights are not on this site" in as_owner.get(url).content.decode()

    def test_lost_ones_are_sent_again_by_hand(self, mine: Trial, as_owner: Client, broker: Redis) -> None:
        again = reverse("trial_again", args=[mine.pk])
        now = timezone.now()
        for state, heard, is_sent in (("running", now, False), ("running", long_ago(), True), ("failed", None, True)):
            Trial.objects.update(state=state, worker="node:8", heartbeat_at=heard, error="It broke.")
            assert as_owner.post(again).status_code == 302
            mine.refresh_from_db()
            assert (mine.state == "waiting") is is_sent and bool(broker.llen("interactive")) is is_sent
            broker.flushall()

    def test_sending_again_without_a_queue(self, mine: Trial, as_owner: Client, no_broker: None) -> None:
        response = as_owner.post(reverse("trial_again", args=[mine.pk]), headers=HTMX)
        assert response.status_code == 503 and "cannot be reached" in response.content.decode()


pytestmark = pytest.mark.django_db


def test_no_sae_and_no_feature_of_that_name(world: World, as_owner: Client) -> None:
    for slug, index in (("nobody", 3), (world.sae.slug, 999_999_999_999)):
        for call in (as_owner.get, as_owner.post):
            assert call(reverse("try", args=[slug, index]), {"text": "x"}).status_code == 404


def test_a_stranger_must_sign_in(url: str, mine: Trial, anonymous: Client) -> None:
    for answer in (
        anonymous.get(url),
        anonymous.post(url, {"text": "x"}),
        anonymous.get(mine.get_absolute_url()),
        anonymous.post(reverse("trial_again", args=[mine.pk])),
        anonymous.post(reverse("trial_take_back", args=[mine.pk])),
    ):
        assert answer.status_code == 302 and answer.headers["Location"].startswith(reverse("login"))
    assert Trial.objects.count() == 1


def test_it_is_for_its_owner_and_staff(mine: Trial, as_owner: Client, as_member: Client, as_staff: Client) -> None:
    for client, status in ((as_member, 404), (as_staff, 200), (as_owner, 200)):
        assert client.get(mine.get_absolute_url()).status_code == status
    for name in ("trial_again", "trial_take_back"):
        assert as_member.post(reverse(name, args=[mine.pk])).status_code == 404
        assert as_owner.get(reverse(name, args=[mine.pk])).status_code == 405
    assert as_owner.post(reverse("trial_take_back", args=[mine.pk])).status_code == 302
    assert not Trial.objects.exists()


@pytest.mark.parametrize(
    ("row", "said", "start_one"),
    [
        (None, "No worker is running.", True),
        ({"queues": ["extract"]}, "none takes the queue “interactive”", True),
        ({"heartbeat_at": "long ago"}, "No worker is running.", True),
        ({"doing": "job 7"}, "node-3 is at job 7. The text is next after that.", True),
        ({}, "The worker node-3 is idle", False),
    ],
)
def test_after_a_while_it_says_where_the_worker_is(
    mine: Trial, as_owner: Client, broker: Redis, row: dict[str, Any] | None, said: str, start_one: bool
) -> None:
    if row is not None:
        now = timezone.now()
        facts: dict[str, Any] = {"name": "node-3", "started_at": now, "heartbeat_at": now} | IDLE | row
        facts["heartbeat_at"] = long_ago() if facts["heartbeat_at"] == "long ago" else facts["heartbeat_at"]
        Worker.objects.create(**facts)
    assert said not in get(as_owner, mine)
    waiting_for(mine, 4)
    page = get(as_owner, mine)
    assert said in page and "hx-trigger" in page
    assert ("make worker QUEUES=interactive" in page) is start_one


def test_a_queue_that_is_down_is_said_for_as_long_as_it_is(mine: Trial, as_owner: Client, no_broker: None) -> None:
    waiting_for(mine, 4)
    page = get(as_owner, mine)
    assert "The queue (Redis) cannot be reached" in page and "make worker" not in page and "hx-trigger" in page


def test_it_asks_less_often_the_longer_it_waits(mine: Trial, as_owner: Client) -> None:
    for seconds, delay in ((0, 150), (5, 700), (60, 3000)):
        waiting_for(mine, seconds)
        assert f"delay:{delay}ms" in get(as_owner, mine)


def test_a_worker_that_loads_says_so_and_one_that_is_lost_too(mine: Trial, as_owner: Client) -> None:
    assert Trial.objects.claim(mine.pk, "node:8:a1") and not Trial.objects.claim(mine.pk, "other")
    assert Trial.objects.beat(mine.pk, "node:8:a1", stage="loading the model")
    assert "Loading the model" in get(as_owner, mine)
    Trial.objects.update(heartbeat_at=long_ago())
    page = get(as_owner, mine)
    assert "The worker node:8:a1 has not been heard of" in page and reverse("trial_again", args=[mine.pk]) in page


def test_the_answer_says_how_strongly_and_where(mine: Trial, as_owner: Client, world: World) -> None:
    largest = Activity.objects.get(run=world.run, index=NAMED).max_activation
    answered(mine, [0, largest / 4, largest / 2, 0], run=world.run.pk)
    page = get(as_owner, mine)
    assert "50.0\N{NO-BREAK SPACE}% of its largest in the corpus" in page
    assert "at token 2, “<bdi> cell</bdi>” · on 2 of 4 tokens" in page
    assert '<mark class="a8 peak"' in page and '<mark class="a4"' in page
    assert "0.05 s" in page and "cpu (x86_64), worker node:8:a1" in page and f"run {world.run.pk}" in page
    assert HOSTILE not in page and "&lt;script&gt;" in page
    assert "hx-trigger" not in page and 'hx-swap-oob="innerHTML:#try-said"' in page
    whole = get(as_owner, mine, htmx=False)
    assert "http-equiv" not in whole and "hx-swap-oob" not in whole and "\na river</textarea>" in whole


@pytest.mark.parametrize(
    ("values", "provenance", "said"),
    [
        ([0, 1e9], {"run": 1}, "more than its largest in the corpus"),
        ([0, 2.0], {}, "it never fired in the corpus"),
        ([0, 0.0], {}, "It does not fire on any of the 2 tokens"),
        ([0, 0.0], {"near": [1, 0.25]}, "It came closest on token 1, “<bdi> river</bdi>”: pre-activation 0.250"),
        ([0, 0.0], {"n_tokens": 900}, "The text has 900 tokens; the first 2 were read."),
        ([0, 0.0], {"sinks": [1]}, "masked as sink: token 1"),
        ([0, 0.0], {"loading": 4.21}, "4.2 of them to load the model"),
        ([0, 0.0], {}, "no run says what is a sink"),
    ],
)
def test_every_answer_is_told(
    mine: Trial, as_owner: Client, world: World, values: list[float], provenance: dict[str, Any], said: str
) -> None:
    if "run" in provenance:
        provenance["run"] = world.run.pk
    page = get(as_owner, answered(mine, values, **provenance))
    assert said in " ".join(page.split())


def test_a_failure_says_why(mine: Trial, as_owner: Client) -> None:
    Trial.objects.update(state="failed", error=f"The SAE {HOSTILE} is gone.")
    page = get(as_owner, mine)
    assert "is gone." in page and HOSTILE not in page and "Send again" in page


def test_earlier_texts_are_one_press_away(
    world: World, url: str, owner: User, as_owner: Client, as_member: Client
) -> None:
    def tried(text: str, index: int = NAMED) -> Trial:
        return answered(Trial.objects.create(sae=world.sae, index=index, text=text, owner=owner), [0, 2.5])

    first, _, hostile = tried("a river"), tried("a river", 3), tried(HOSTILE)
    tried("a cell", 3)
    page = as_owner.get(url, headers=HTMX).content.decode()
    assert f'hx-get="{first.get_absolute_url()}"' in page and f'href="{hostile.get_absolute_url()}"' in page
    assert page.count("2.50") == 2 and HOSTILE not in page
    assert page.count("a cell</textarea>") == 1 and "a river</textarea>" not in page
    assert "<html" in as_owner.get(url).content.decode()
    assert "a river" not in as_member.get(url, headers=HTMX).content.decode()


def test_the_number_of_queries_is_small(
    world: World, url: str, mine: Trial, as_owner: Client, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(3):  # session, user, trial
        get(as_owner, mine)
    waiting_for(mine, 4)
    with django_assert_max_num_queries(4):  # and workers
        get(as_owner, mine)
    answered(mine, [0, 1.0], run=world.run.pk)
    get(as_owner, mine)  # the vocabulary is kept from here on
    for htmx in (True, False):
        with django_assert_max_num_queries(4):  # and the feature's maximum
            get(as_owner, mine, htmx)
    with django_assert_max_num_queries(5):  # session, user, SAE, feature, texts
        as_owner.get(url)


def test_a_lost_worker_is_forgiven_once(mine: Trial, broker: Redis) -> None:
    for lost, state in ((1, "waiting"), (1, "failed")):
        assert Trial.objects.claim(mine.pk, "gone")
        Trial.objects.update(heartbeat_at=long_ago())
        sweep.sweep()
        mine.refresh_from_db()
        assert (mine.lost, mine.state) == (lost, state)
    assert mine.error.startswith("2 workers were lost while they ran this text")
    assert len(sent(broker, "interactive")) == 1


def test_sweeping_tells_of_texts_that_nobody_knows_of_and_clears_old_ones(mine: Trial, broker: Redis) -> None:
    for _ in range(2):
        sweep.sweep()
        assert [args[0] for _, args in sent(broker, "interactive")] == [[mine.pk]]
    Trial.objects.update(created_at=timezone.now() - trials.KEPT - timedelta(days=1))
    sweep.sweep()
    assert not Trial.objects.exists()


def test_the_feature_page_has_the_form(world: World, owner: User) -> None:
    page = signed_in(owner).get(reverse("feature", args=[world.sae.slug, NAMED])).content.decode()
    assert f'action="{reverse("try", args=[world.sae.slug, NAMED])}"' in page
