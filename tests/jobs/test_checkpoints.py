"""SAEs that people add: read by a worker as they are, refused with a sentence, used by name, and changed by few."""

import json
import shutil
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone
from django.utils.html import escape
from redis import Redis

from features.models import SAE
from jobs import catalogue, checkpoints, sweep, tasks, uploads
from jobs.catalogue import NotUsable, SAEFacts
from jobs.engine.errors import EngineError
from jobs.engine.saes import load_sae
from jobs.models import Checkpoint
from jobs.models.checkpoint import MAX_LOST_READING
from jobs.requests import ExtractionRequest
from jobs.sources import sae_located
from tests import factories
from tests.jobs.conftest import signed_in
from tests.jobs.test_models import long_ago

FIXTURES = Path(__file__).parents[1] / "fixtures" / "saes"
ADD = "/saes/add/"
GOOD = (
    "saelens_v6__topk", "saelens_legacy__jumprelu", "gemma_scope__jumprelu", "gemma_scope_2__jumprelu",
    "dictionary_learning__AutoEncoder", "sparsify__topk", "openai__topk", "llamascope__jumprelu",
    "llamascope_r1__jumprelu", "llamascopium__jumprelu", "goodfire__standard",
)  # fmt: skip
State = Checkpoint.State

pytestmark = pytest.mark.django_db


def case(name: str) -> tuple[Path, dict[str, Any]]:
    about = json.loads((FIXTURES / name / "case.json").read_text())
    return FIXTURES / name / about["load_path"], about


def uploaded(place: Path, root: Path, owner: User | None = None, **overrides: Any) -> Checkpoint:
    """The files at ``place``, sent with the names of the folders below ``root``."""
    sent = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    listed = [{"name": str(path.relative_to(root)), "bytes": path.stat().st_size} for path in sent]
    checkpoint = checkpoints.add_upload(listed, overrides, owner)
    for number, path in enumerate(sent):
        with path.open("rb") as file:
            checkpoints.receive_whole(checkpoint, number, file)
    return checkpoint


def added(name: str, owner: User | None = None, **overrides: Any) -> Checkpoint:
    place, _ = case(name)
    return uploaded(place, FIXTURES / name, owner, **overrides)


def read(checkpoint: Checkpoint) -> Checkpoint:
    tasks.read_checkpoint(checkpoint.pk)
    checkpoint.refresh_from_db()
    return checkpoint


@pytest.mark.parametrize("name", GOOD)
def test_an_upload_is_read_as_the_files_it_came_from(name: str) -> None:
    place, about = case(name)
    given = about.get("loader_args") or {}
    overrides = {key: given[key] for key in ("k", "layer", "hook") if key in given}
    checkpoint = read(added(name, **overrides))
    assert (checkpoint.state, checkpoint.error) == (State.READY, "")
    assert checkpoint.card == load_sae(place, **overrides).card()
    assert checkpoint.card["layer"] == overrides.get("layer", about["expected_layer"])


def test_what_only_the_name_of_a_folder_says_is_kept(tmp_path: Path) -> None:
    place, about = case("qwen_scope__topk")
    assert read(added("qwen_scope__topk")).card["k"] == about["k"]
    bare = tmp_path / "layer5.sae.pt"
    shutil.copy(place, bare)
    refused = read(uploaded(bare, tmp_path))
    assert (refused.state, refused.card) == (State.REFUSED, {})
    assert "give k" in refused.error
    checkpoints.read_again(refused, {"k": about["k"], "layer": None, "hook": "", "centred": None})
    refused.refresh_from_db()
    assert refused.overrides == {"k": about["k"]}
    assert read(refused).card["k"] == about["k"]


@pytest.mark.parametrize("name", ["bad__saelens_nan_weights", "bad__pickle_executes_code_ae_pt", "bad__truncated_pt"])
def test_bad_files_are_refused_in_a_sentence_that_names_them(name: str, client_of: Any) -> None:
    checkpoint = read(added(name))
    assert checkpoint.state == State.REFUSED
    assert str(settings.VAR_DIR) not in checkpoint.error
    assert any(Path(file["name"]).name in checkpoint.error for file in checkpoint.files)
    page = client_of().get(checkpoint.get_absolute_url()).content.decode()
    assert escape(checkpoint.error) in page
    assert "It cannot be used as it is" in page


def test_a_path_is_read_where_it_is(owner: User) -> None:
    place, _ = case("saelens_v6__topk")
    checkpoint = read(checkpoints.add_place(str(place), {}, owner))
    assert (checkpoint.state, checkpoint.origin) == (State.READY, Checkpoint.Origin.PATH)
    checkpoints.delete(checkpoint)
    assert place.is_dir()


def test_a_hub_that_is_off_says_so(owner: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    checkpoint = read(checkpoints.add_place("no-such-owner/no-such-sae", {}, owner))
    assert checkpoint.state == State.REFUSED
    assert "no-such-owner/no-such-sae" in checkpoint.error


def test_an_error_that_nobody_foresaw_ends_in_a_sentence() -> None:
    checkpoint = added("saelens_v6__topk")
    checkpoint.refresh_from_db()
    default_storage.delete(checkpoint.files[0]["stored"])
    checkpoint = read(checkpoint)
    assert checkpoint.state == State.REFUSED
    assert checkpoint.error.startswith("The worker met an error it does not know: FileNotFoundError")


def test_only_one_worker_reads_it() -> None:
    checkpoint = added("saelens_v6__topk")
    assert Checkpoint.objects.claim(checkpoint.pk, "one")
    assert not Checkpoint.objects.claim(checkpoint.pk, "two")
    assert read(checkpoint).state == State.READING  # somebody is at it
    assert not Checkpoint.objects.refuse(checkpoint.pk, "two", "no")
    assert Checkpoint.objects.refuse(checkpoint.pk, "one", "no\0")
    tasks.read_checkpoint(checkpoint.pk + 1)  # it may be gone


def test_what_lost_its_worker_is_read_by_another(broker: Redis) -> None:
    checkpoint = added("saelens_v6__topk")
    for n_lost in range(1, MAX_LOST_READING + 1):
        assert Checkpoint.objects.claim(checkpoint.pk, "killed")
        sweep.sweep(clean=False)
        assert Checkpoint.objects.get().state == State.READING
        Checkpoint.objects.update(heartbeat_at=long_ago())
        sweep.sweep(clean=False)
        checkpoint.refresh_from_db()
        assert checkpoint.state == (State.WAITING if n_lost < MAX_LOST_READING else State.REFUSED)
    assert broker.llen("default") == 1  # not one for each sweep
    assert "3 workers were lost" in checkpoint.error
    assert checkpoints.read_again(checkpoint, {})
    assert read(checkpoint).state == State.READY


def test_what_nobody_goes_on_with_is_deleted(broker: Redis) -> None:
    left, fresh = (checkpoints.add_upload([{"name": "a.pt", "bytes": 2}], {}, None) for _ in range(2))
    kept = added("saelens_v6__topk")
    read(kept)
    for checkpoint in (left, fresh):
        checkpoints.receive(checkpoint, 0, 0, 1, BytesIO(b"1"))
    Checkpoint.objects.filter(pk=left.pk).update(updated_at=timezone.now() - timedelta(days=8))
    (uploads.cached("sae-of-a-row-that-is-gone")).mkdir(parents=True)
    sweep.sweep()
    assert set(Checkpoint.objects.all()) == {fresh, kept}
    assert uploads.places() == {fresh.place, kept.place}


def test_deleting_leaves_nothing_behind() -> None:
    checkpoint = added("saelens_v6__topk")
    read(checkpoint)
    assert uploads.places() == {checkpoint.place}
    checkpoints.delete(checkpoint)
    assert uploads.places() == set()


def test_a_worker_that_has_an_older_copy_fetches_what_is_missing() -> None:
    checkpoint = added("llamascope__jumprelu")
    place = checkpoints.locate(read(checkpoint).source).path
    (place / "checkpoints" / "final.safetensors").write_bytes(b"cut")
    checkpoints.read_again(checkpoint, {})
    assert read(checkpoint).state == State.READY


def test_a_request_names_it_and_what_was_said_of_it_counts() -> None:
    checkpoint = read(added("saelens_v6__topk", hook="resid_pre", layer=3, k=5))
    asked = ExtractionRequest(model="m", sae=checkpoint.source, corpus="c", layer=4)
    located, overrides = sae_located(asked)
    assert overrides == {
        "hook": "resid_pre",
        "layer": 4,
        "k": 5,
    }
    sae = load_sae(located.path, **overrides)
    assert (sae.hook_point(), sae.k) == (("resid_pre", 4), 5)
    assert located.source == checkpoint.source


def test_a_row_that_was_made_from_it_finds_it_again() -> None:
    checkpoint = read(added("saelens_v6__topk"))
    row = factories.make_sae(factories.make_model(), source=checkpoint.source)
    asked = ExtractionRequest(model="m", sae=row.slug, corpus="c")
    assert sae_located(asked)[0].path.is_dir()
    checkpoints.delete(checkpoint)
    with pytest.raises(EngineError, match=r"checkpoint:\d+ has been deleted"):
        sae_located(asked)


def test_lists_offer_what_is_ready(var: Path) -> None:
    ready, refused = read(added("saelens_v6__topk")), read(added("bad__saelens_nan_weights"))
    hook, layer = ready.card["hook"], ready.card["layer"]
    offered = dict(catalogue.sae_choices())["Added"]
    assert [value for value, _ in offered] == [ready.source]
    assert f"topk, {hook}, layer {layer}" in offered[0][1]
    assert catalogue.sae_facts(ready.source) == SAEFacts(24, layer, hook, ready.card["d_sae"])
    for place, why in ((refused.source, "is refused"), ("checkpoint:99999", "nothing that was added")):
        with pytest.raises(NotUsable, match=why):
            catalogue.sae_facts(place)
    factories.make_sae(factories.make_model(), source=ready.source)
    assert "Added" not in dict(catalogue.sae_choices())  # it is registered now


def test_a_card_is_hostile_text(client_of: Any) -> None:
    card: dict[str, Any] = dict.fromkeys(
        ("format", "architecture", "hook", "model_name", "variant", "normalisation"), factories.HOSTILE * 200
    )
    card |= {
        "layer": factories.HOSTILE,
        "d_in": factories.HOSTILE,
        "k": [factories.OVERRIDE],
        "digest": factories.HOSTILE,
    }
    card |= {"notes": [factories.HOSTILE + factories.OVERRIDE] * 500, "files": [{"name": factories.OVERRIDE}] * 500}
    row = Checkpoint.objects.create(name=factories.HOSTILE, origin="path", place="/x", state=State.READY, card=card)
    for address in (row.get_absolute_url(), ADD, "/jobs/new/"):
        page = client_of().get(address).content.decode()
        assert factories.HOSTILE not in page
        assert factories.OVERRIDE not in page
        assert len(page) < 100_000


def test_an_empty_card_is_no_fault(client_of: Any) -> None:
    for card in ({}, dict.fromkeys(load_sae(case("saelens_v6__topk")[0]).card())):
        row = Checkpoint.objects.create(name="x", origin="path", place="/x", state=State.READY, card=card)
        assert client_of().get(row.get_absolute_url()).status_code == 200
    assert client_of().get(ADD).status_code == 200


def test_the_page_follows_its_state(client_of: Any) -> None:
    checkpoint = added("saelens_v6__topk")
    state = f"{checkpoint.get_absolute_url()}state/"
    fragment = client_of().get(state)
    assert "Waiting for a worker" in fragment.content.decode()
    assert "HX-Refresh" not in fragment.headers
    Checkpoint.objects.claim(checkpoint.pk, "w")
    Checkpoint.objects.beat(checkpoint.pk, "w", done=1 << 20, total=4 << 20)
    assert 'max="4194304" value="1048576"' in client_of().get(state).content.decode()
    Checkpoint.objects.release(checkpoint.pk, "w")
    read(checkpoint)
    assert client_of().get(state).headers["HX-Refresh"] == "true"
    page = client_of().get(checkpoint.get_absolute_url()).content.decode()
    assert f"?sae=checkpoint%3A{checkpoint.pk}" in page
    assert checkpoint.card["digest"] in page
    assert (
        f'value="{checkpoint.source}" selected'
        in client_of().get(f"/jobs/new/?sae={checkpoint.source}").content.decode()
    )


def test_members_add_repositories_and_staff_add_paths(as_member: Client, as_staff: Client, tmp_path: Path) -> None:
    place = str(case("saelens_v6__topk")[0])
    refused = as_member.post(ADD, {"place": place})
    assert (refused.status_code, "only an administrator may give a path" in refused.content.decode()) == (422, True)
    nowhere = as_member.post(ADD, {"place": "../etc/<b>"}).content.decode()
    assert "../etc/&lt;b&gt; is neither a full path nor owner/name" in nowhere
    assert "there is nothing at" in as_staff.post(ADD, {"place": str(tmp_path / "gone")}).content.decode()
    assert "has no cfg.json" in as_staff.post(ADD, {"place": str(tmp_path)}).content.decode()
    assert not Checkpoint.objects.exists()
    assert as_staff.post(ADD, {"place": place, "layer": "3"}).status_code == 302
    assert as_member.post(ADD, {"place": "owner/name@main/layer_3", "centred": "true"}).status_code == 302
    hub, path = Checkpoint.objects.all()
    assert (hub.origin, hub.state, hub.overrides) == ("hub", State.WAITING, {"centred": True})
    assert (path.origin, path.owner and path.owner.username, path.overrides) == ("path", "staff", {"layer": 3})


def test_others_look_but_do_not_change(as_owner: Client, member: User, as_staff: Client) -> None:
    checkpoint = read(added("saelens_v6__topk", member))
    page = as_owner.get(checkpoint.get_absolute_url()).content.decode()
    assert "Only member and administrators may change or delete it" in page
    assert str(checkpoint) in as_owner.get(ADD).content.decode()
    for action in ("read", "delete"):
        assert as_owner.post(f"{checkpoint.get_absolute_url()}{action}/").status_code == 403
    assert signed_in(member).post(f"{checkpoint.get_absolute_url()}read/", {"k": "7"}).status_code == 302
    checkpoint.refresh_from_db()
    assert (checkpoint.state, checkpoint.overrides) == (State.WAITING, {"k": 7})
    assert as_staff.post(f"{checkpoint.get_absolute_url()}delete/").status_code == 302
    assert not Checkpoint.objects.exists()


def test_a_stranger_gets_nothing(anonymous: Client) -> None:
    checkpoint = added("saelens_v6__topk")
    paths = (
        "",
        "form/",
        "upload/",
        *(f"{checkpoint.pk}/{part}" for part in ("", "state/", "files/", "read/", "delete/")),
    )
    for path in paths:
        for answer in (anonymous.get(ADD + path), anonymous.post(ADD + path)):
            assert (answer.status_code, answer.headers.get("Location", "").startswith("/login/")) == (302, True), path
    assert Checkpoint.objects.count() == 1


def test_a_mistake_in_what_is_said_is_shown_where_it_was_typed(as_member: Client, member: User) -> None:
    checkpoint = read(added("saelens_v6__topk", member))
    answer = as_member.post(f"{checkpoint.get_absolute_url()}read/", {"k": "-1", "hook": "resid_mid"})
    page = answer.content.decode()
    assert (answer.status_code, 'value="resid_mid"' in page, "k: give a whole number" in page) == (422, True, True)
    checkpoint.refresh_from_db()
    assert checkpoint.state == State.READY


def test_the_list_asks_the_database_a_fixed_number_of_times(as_member: Client, django_assert_num_queries: Any) -> None:
    for number in range(6):
        owner = factories.make_user(f"u{number}")
        Checkpoint.objects.create(name=f"sae {number}", origin="path", place=f"/{number}", owner=owner)
    with django_assert_num_queries(3):  # session, user, checkpoints
        as_member.get(ADD)


@pytest.fixture
def client_of(db: None) -> Any:
    """A client of somebody who owns nothing."""
    client = signed_in(factories.make_user("reader"))
    return lambda: client


def test_no_sae_row_is_made_by_reading() -> None:
    read(added("saelens_v6__topk"))
    assert not SAE.objects.exists()
