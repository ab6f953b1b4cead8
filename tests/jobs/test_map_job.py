"""A map job, from its button to the layout, and the map's page. UMAP itself runs in the slow tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from redis import Redis

from features.models import SAE, Layout
from features.store.layout import unpack_clusters, unpack_points
from jobs import maps, services, sweep
from jobs.maps import NoMap, create_map, queue_map
from jobs.models import Job
from jobs.requests import MapRequest
from tests.factories import HOSTILE, OVERRIDE, World
from tests.features.test_map import make_layout
from tests.jobs.helpers import done, tiny_job
from tests.jobs.test_services import sent

MAP = "/saes/tiny-lm-l6/map/"


def make_job(world: World, state: str = Job.State.QUEUED, **values: Any) -> Job:
    job = create_map(MapRequest(sae=world.sae.slug), world.user)
    Job.objects.filter(pk=job.pk).update(state=state, **values)
    job.refresh_from_db()
    return job


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"n_neighbors": 1}, "from 2 to 200, not 1"),
        ({"min_dist": 1.0}, "from 0 to 0.99, not 1"),
        ({"min_dist": float("nan")}, "not nan"),
        ({"metric": "euclidean"}, "there is cosine alone"),
        ({"seed": -1}, "not -1"),
    ],
)
def test_what_no_map_can_be_made_with(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MapRequest(sae="x", **asked)


def test_the_button_queues_a_map_once(
    world: World, client_in: Client, broker: Redis, django_capture_on_commit_callbacks: Any
) -> None:
    assert "Make a map" in client_in.get(MAP).content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(2):
            assert client_in.post(f"{MAP}make/")["Location"] == MAP
    job = Job.objects.get()
    assert (job.kind, job.owner, job.settings["sae"]) == (Job.Kind.MAP, world.user, world.sae.slug)
    assert sent(broker, "default") == [("jobs.tasks.draw_map", [[job.pk], {}])]
    assert sent(broker) == []
    page = client_in.get(MAP).content.decode()
    assert "A map waits for a worker" in page
    assert f"/jobs/{job.pk}/" in page
    assert "Make a map" not in page


def test_other_numbers_make_another_map(world: World, broker: Redis) -> None:
    first = queue_map(MapRequest(sae=world.sae.slug), world.user)
    assert queue_map(MapRequest(sae=world.sae.slug), world.user) == first
    assert queue_map(MapRequest(sae=world.sae.slug, seed=1), world.user) != first


def test_a_wrong_number_is_said_and_stays_in_the_form(world: World, client_in: Client) -> None:
    make_layout(world)
    for typed, said in (("1000", "from 2 to 200, not 1000"), ("a few", "N neighbors: give a whole number.")):
        answer = client_in.post(f"{MAP}make/", {"n_neighbors": typed, "min_dist": "0.2"})
        page = answer.content.decode()
        assert answer.status_code == 422
        assert said in page
        assert f'value="{typed}"' in page
        assert 'value="0.2"' in page
    assert not Job.objects.exists()


def test_an_sae_without_weights_has_no_map(world: World, client_in: Client) -> None:
    SAE.objects.filter(pk=world.sae.pk).update(digest="")
    page = client_in.get(MAP).content.decode()
    assert "without the SAE's weights" in page
    assert "<button" not in page.split("<main", 1)[1]
    answer = client_in.post(f"{MAP}make/")
    assert answer.status_code == 409
    assert "was imported without its weights" in answer.content.decode()
    with pytest.raises(NoMap, match="There is no SAE nobody here"):
        create_map(MapRequest(sae="nobody"), None)


def test_without_a_queue_the_job_is_there_all_the_same(
    world: World, no_broker: None, client_in: Client, transactional_db: None
) -> None:
    page = client_in.post(f"{MAP}make/", follow=True).content.decode()
    assert "the queue (Redis) cannot be reached" in page
    assert Job.objects.filter(kind=Job.Kind.MAP).count() == 1


def test_a_map_that_nobody_knows_of_is_sent_to_its_own_queue(world: World, broker: Redis) -> None:
    job = make_job(world)
    for _ in range(2):
        sweep.sweep()
        assert sent(broker, "default") == [("jobs.tasks.draw_map", [[job.pk], {}])]
    assert sent(broker) == []


def test_the_page_tells_how_it_goes(world: World, client_in: Client) -> None:
    job = make_job(world, Job.State.RUNNING, stage="laying out the features", done=25, total=100)
    page = client_in.get(MAP).content.decode()
    assert "Laying out the features: about 25 % is done" in page
    assert "tokens" not in page.split("map-job", 1)[1].split("</main>")[0]
    state = client_in.get(f"{MAP}state/")
    assert "about 25 % is done" in state.content.decode()
    assert "HX-Refresh" not in state
    assert "Open the map" in client_in.get(job.get_absolute_url()).content.decode()
    assert "tokens/s" not in client_in.get(f"/jobs/{job.pk}/progress/").content.decode()
    make_layout(world)
    Job.objects.filter(pk=job.pk).update(state=Job.State.DONE)
    assert client_in.get(f"{MAP}state/")["HX-Refresh"] == "true"
    assert "map-job" not in client_in.get(MAP).content.decode()


@pytest.mark.parametrize(
    ("state", "said"), [("failed", "The SAE is gone."), ("cancelled", "The last map was cancelled")]
)
def test_a_map_that_came_to_nothing_says_so(world: World, client_in: Client, state: str, said: str) -> None:
    job = make_job(world, state, error="The SAE is gone.")
    for _ in range(2):  # without a map, and beside an older one
        page = client_in.get(MAP).content.decode()
        assert said in page
        assert f"/jobs/{job.pk}/" in page
        layout = make_layout(world)
        Layout.objects.filter(pk=layout.pk).update(created_at=job.created_at.replace(year=2020))


def test_the_page_lists_the_clusters_as_text(
    world: World, client_in: Client, django_assert_max_num_queries: Any
) -> None:
    layout = make_layout(world)
    client_in.get(MAP)
    with django_assert_max_num_queries(6):  # session, user, SAE, layout, job, run
        page = client_in.get(MAP).content.decode()
    assert HOSTILE not in page
    assert OVERRIDE not in page.replace("\\u202e", "")
    assert f"{MAP}chosen/?layout={layout.pk}&amp;cluster=1" in page
    assert "of a feature's nearest directions, 25.0\N{NO-BREAK SPACE}%" in page
    assert f"{MAP}data/?layout={layout.pk}&amp;run={world.run.pk}&amp;revision=0" in page
    assert "plotly" not in page


@pytest.mark.parametrize("address", [MAP, f"{MAP}state/"])
def test_nobody_sees_it_without_signing_in(world: World, anonymous: Client, address: str) -> None:
    assert anonymous.get(address)["Location"].startswith("/login/")
    assert anonymous.post(f"{MAP}make/")["Location"].startswith("/login/")
    assert not Job.objects.exists()


def test_everybody_may_ask_for_one_but_only_its_owner_may_cancel(
    world: World, as_member: Client, broker: Redis
) -> None:
    job = make_job(world)
    assert as_member.post(f"/jobs/{job.pk}/cancel/").status_code == 403
    assert as_member.post(f"{MAP}make/", {"seed": "3"}).status_code == 302
    assert Job.objects.filter(kind=Job.Kind.MAP).count() == 2


def test_a_worker_that_cannot_load_the_sae_says_why(world: World, django_capture_on_commit_callbacks: Any) -> None:
    job = done(make_job(world))
    assert job.state == Job.State.FAILED
    assert "saes/tiny-lm-l6" in job.error
    assert job.traceback == ""
    assert not Layout.objects.exists()
    with django_capture_on_commit_callbacks():
        assert services.retry(job)
    assert done(job).state == Job.State.FAILED


def test_the_command_refuses_what_cannot_be(world: World) -> None:
    for wrong, said in (
        (["--sae", "nobody"], "no SAE nobody"),
        (["--sae", "x", "--n-neighbors", "1"], "from 2 to 200"),
    ):
        with pytest.raises(CommandError, match=said):
            call_command("map", *wrong, "--local")


def tiny_sae(folder: Path) -> SAE:
    job = done(tiny_job(folder))
    assert job.run is not None, job.error
    return job.run.sae


@pytest.mark.django_db
def test_changed_weights_are_refused(tiny_folder: Path) -> None:
    sae = tiny_sae(tiny_folder)
    SAE.objects.filter(pk=sae.pk).update(digest="0" * 64)
    job = done(create_map(MapRequest(sae=sae.slug), None))
    assert job.state == Job.State.FAILED
    assert "is not what the features were extracted from" in job.error


@pytest.mark.slow  # numba compiles UMAP
@pytest.mark.django_db
def test_a_map_is_drawn_whole_or_not_at_all(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sae = tiny_sae(tiny_folder)
    stages: list[str] = []
    job = done(create_map(MapRequest(sae=sae.slug, n_neighbors=5), None), watch=lambda stage, *_: stages.append(stage))
    assert job.state == Job.State.DONE, job.error or job.traceback
    layout = Layout.objects.get()
    assert unpack_points(bytes(layout.xy)).shape == (sae.d_sae, 2)
    cluster = unpack_clusters(bytes(layout.cluster))
    assert [c["size"] for c in layout.clusters] == np.bincount(cluster[cluster >= 0]).tolist()
    assert all(c["name"] and c["why"] for c in layout.clusters)
    assert layout.provenance["packages"]["umap-learn"]
    assert 0 < layout.provenance["kept"] <= 1
    assert stages == [
        "loading the SAE",
        "finding the nearest directions",
        "laying out the features",
        "finding clusters",
        "naming the clusters",
        "writing to the database",
    ]
    again = done(create_map(MapRequest(sae=sae.slug, n_neighbors=5), None))
    assert again.state == Job.State.DONE
    assert bytes(Layout.objects.first().xy) == bytes(layout.xy)  # type: ignore[union-attr]
    cancelled = create_map(MapRequest(sae=sae.slug, n_neighbors=5), None)

    def cancel(stage: str, *_: object) -> None:
        if stage == "writing to the database":
            Job.objects.cancel(cancelled.pk)

    assert done(cancelled, watch=cancel).state == Job.State.CANCELLED
    assert Layout.objects.count() == 2
    assert maps.newest_job(sae) == cancelled
