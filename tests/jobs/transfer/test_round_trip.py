"""A run goes out in Neuronpedia's layout and comes into an empty site: the feature pages show the same numbers."""

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from features.columns import columns_of
from features.models import SAE, Activity, ApiKey, Context, Corpus, Feature, Label, LanguageModel, Run
from jobs.transfer import out
from tests import factories
from tests.jobs.transfer.made import exported, imported, write_folder

pytestmark = pytest.mark.django_db
NUMBERS = ("n_documents", "n_contexts", "n_tokens", "n_special", "n_sinks", "n_alive", "n_dense", "n_pool_tokens", "l0")


def empty_the_site() -> None:
    for model in (Label, Activity, Context, Run, Feature, SAE, LanguageModel, Corpus):
        model.objects.all().delete()


def answers(client: Client, run: Run) -> list[Any]:
    """What the API says of every feature, but for the keys of this database."""
    found = []
    for index in range(run.sae.d_sae):
        answer = client.get(f"/api/v1/saes/{run.sae.slug}/features/{index}")
        assert answer.status_code == 200
        said = answer.json()
        assert (said.pop("sae"), said.pop("run")) == (run.sae.slug, run.pk)
        found.append(said)
    return found


def page(client: Client, run: Run, index: int) -> str:
    """A feature's examples and weights, as its page shows them."""
    text = client.get(f"/saes/{run.sae.slug}/features/{index}/").content.decode()
    return text[text.index('<section aria-label="Examples">') : text.index('<p class="copies">')].replace(
        f"run={run.pk}", ""
    )


@pytest.fixture
def mixture(db: None) -> factories.World:
    """A run on a mixture of experts, with labels of all kinds."""
    world = factories.make_world(experts=factories.ROUTER)
    feature = world.sae.features.get(index=9)
    Label.objects.create(
        feature=feature, text="asked", explanation="asked, at length", source="model", explainer="gpt", method="top"
    )
    return world


def test_everything_comes_back(mixture: factories.World, tmp_path: Path) -> None:
    run, client = mixture.run, Client()
    client.force_login(mixture.user)
    said, columns, pages = answers(client, run), columns_of(run), [page(client, run, i) for i in (2, 3, 5, 7)]
    texts = factories.texts_of(run)
    contexts = list(Context.objects.order_by("number").values_list("number", "document_id", "offset"))
    exported(run, tmp_path)
    empty_the_site()
    row = imported(tmp_path, mixture.user)
    assert (row.state, row.n_refused, row.faults) == ("done", 0, [])
    new = Run.objects.select_related("sae__model", "corpus").get()
    assert answers(client, new) == said
    assert [page(client, new, i) for i in (2, 3, 5, 7)] == pages
    assert factories.texts_of(new) == texts
    assert list(Context.objects.order_by("number").values_list("number", "document_id", "offset")) == contexts
    assert [getattr(new, name) for name in NUMBERS] == [getattr(run, name) for name in NUMBERS]
    assert (new.corpus.digest, new.valid, new.experts) == (run.corpus.digest, run.valid, run.experts)
    again = columns_of(new)
    for name in ("n_firing", "density", "max_activation", "mean_activation", "present"):
        assert getattr(again, name).tolist() == getattr(columns, name).tolist()
    assert [index for index, ruled in enumerate(again.ruled) if ruled] == [factories.HOSTILES, factories.TIED]
    assert set(Label.objects.values_list("text", "explanation", "source", "author_name")) >= {
        ("cities, by Ada", "", "person", "ada"),
        ("asked", "asked, at length", "model", ""),
    }


def test_and_goes_out_the_same_again(world: factories.World, tmp_path: Path) -> None:
    exported(world.run, tmp_path / "one")
    empty_the_site()
    new = imported(tmp_path / "one").run
    assert new is not None
    exported(new, tmp_path / "two")
    one, two = (
        {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*.gz"))}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert {str(path).split("/", 3)[3] for path in one} == {str(path).split("/", 3)[3] for path in two}
    for (before, raw), (after, other) in zip(one.items(), two.items(), strict=True):
        if "featurescope" in before.parts:
            assert raw == other, (before, after)
    row = imported(tmp_path / "two")
    assert (row.n_new, row.n_changed, row.n_same) == (0, 0, 27) or row.run != new


def test_it_comes_in_beside_the_run_it_was_made_from(world: factories.World, tmp_path: Path) -> None:
    row = imported(exported(world.run, tmp_path))
    assert row.run is not None
    assert row.run.sae.model != world.model
    assert row.run.corpus == world.corpus
    assert imported(tmp_path).n_same == 27


def test_lines_of_our_own_are_checked_as_all_are(world: factories.World, tmp_path: Path) -> None:
    import gzip

    folder = exported(world.run, tmp_path)
    (path,) = folder.rglob("features-0.jsonl.gz")
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    lines[1]["examples"][0][2] = [900]
    lines[2]["examples"][0][0] = 12345
    lines[3]["histogram"]["edges"] = lines[3]["histogram"]["edges"][::-1]
    lines[4]["density"] = 2
    lines[5]["labels"] = [{"id": "x", "text": "no source"}]
    lines[6]["top_logits"]["ids"][0] = -1
    lines[7] = {"featurescope": "own"}
    path.write_bytes(gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))
    row = imported(folder)
    assert [fault["line"] for fault in row.faults] == [2, 3, 4, 5, 6, 7, 8]
    assert row.run is not None
    assert row.run.activities.count() == 17


def test_the_commands_write_and_read(world: factories.World, tmp_path: Path) -> None:
    told = io.StringIO()
    call_command("export_neuronpedia", run=world.run.pk, out=tmp_path / "out", batch=10, stdout=told)
    assert f"Run {world.run.pk} is in" in told.getvalue()
    assert sorted(p.name for p in (tmp_path / "out").rglob("batch-*")) == sorted(
        3 * [f"batch-{i}.jsonl.gz" for i in range(3)]
    )
    told = io.StringIO()
    call_command("import_features", str(tmp_path / "out"), name="brought along", stdout=told, stderr=io.StringIO())
    assert "27 new, 0 changed, 0 the same" in told.getvalue()
    assert SAE.objects.filter(name="brought along").exists()
    with pytest.raises(CommandError, match="There is no run 99999"):
        call_command("export_neuronpedia", run=99999, out=tmp_path)
    with pytest.raises(CommandError, match="There is nothing at"):
        call_command("import_features", str(tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="none of the files"):
        call_command("import_features", str(tmp_path / "empty"), stderr=io.StringIO())


def test_the_zip_holds_what_the_command_writes(world: factories.World, tmp_path: Path, client_in: Client) -> None:
    answer = client_in.get(f"/runs/{world.run.pk}/export/")
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="tiny-lm-6-tiny-lm-l6.zip"'
    path = tmp_path / "run.zip"
    path.write_bytes(b"".join(answer))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        written = {name: archive.read(name) for name in archive.namelist()}
    assert written == {name: b"".join(blocks) for name, blocks in out.files(Run.objects.get())}
    assert imported(path).n_new == 27


def test_an_export_reads_a_bounded_part_at_a_time(world: factories.World, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(20):
        for _, blocks in out.files(world.run):
            assert all(len(block) < 1 << 20 for block in blocks)


def test_an_imported_run_goes_out_under_its_own_names(tmp_path: Path) -> None:
    run = imported(write_folder(tmp_path / "in")).run
    assert run is not None
    folder = exported(run, tmp_path / "out")
    assert (folder / "v1/gpt2-small/6-res-jb/features/batch-0.jsonl.gz").exists()
    shutil.rmtree(folder / "v1/gpt2-small/6-res-jb/featurescope")
    (folder / "v1/gpt2-small/6-res-jb/featurescope.json").unlink()
    row = imported(folder)
    assert row.run == run
    assert row.n_refused == 0


@pytest.mark.parametrize("address", ["/runs/{}/export/", "/import/"])
def test_outsiders_are_sent_away(anonymous: Client, world: factories.World, address: str) -> None:
    answer = anonymous.get(address.format(world.run.pk))
    assert (answer.status_code, answer.headers["Location"].split("?")[0]) == (302, "/login/")
    assert ApiKey.objects.count() == 0
