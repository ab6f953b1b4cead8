"""Neuronpedia's files come in whole, again, changed, broken or in part; what is here afterwards follows from them."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.columns import columns_of
from features.evidence import examples_of, find_activity, logit_effects, relatives_of
from features.models import SAE, Activity, Context, Corpus, Feature, Label, LanguageModel, Phrase, Run
from features.store.histogram import unpack_histogram
from features.vocabulary import tokens_of
from jobs.models import Import
from jobs.transfer import reading
from jobs.work.importing import read
from tests import factories
from tests.jobs.transfer.made import (
    activation,
    explanation,
    exported,
    feature,
    imported,
    write_folder,
    write_lines,
)

pytestmark = pytest.mark.django_db
State = Import.State


def shown(run: Run, index: int) -> list[dict[str, Any]]:
    """The examples of a feature, as text and values."""
    tokens = tokens_of(LanguageModel.objects.get(pk=run.sae.model_id))
    return [
        {
            "tokens": tokens.texts(one.token_ids),
            "values": one.example.dense(len(one.token_ids)).tolist(),
            "band": one.example.band,
            "document": (one.context.document_id, one.context.document_source),
        }
        for one in examples_of(run, find_activity(run, index)).firing
    ]


def everything() -> list[Any]:
    """All that an import wrote, but for keys and times."""
    models = [list(LanguageModel.objects.values_list("source", "tokenizer_digest"))]
    activities = Activity.objects.order_by("index").values_list(
        "index",
        "n_firing",
        "density",
        "max_activation",
        "histogram",
        "examples",
        "feature__logits",
        "feature__label__text",
    )
    contexts = Context.objects.order_by("number").values_list(
        "number", "document_id", "document_source", "token_ids", "features"
    )
    labels = Label.objects.order_by("feature__index", "pk").values_list("feature__index", "text", "outside_id")
    rows = [*activities, *contexts, *labels, *Run.objects.values_list("n_tokens", "n_alive", "revision")]
    return models + [[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in rows]


def test_a_folder_comes_in(tmp_path: Path) -> None:
    row = imported(write_folder(tmp_path))
    assert (row.state, row.error, row.faults) == (State.DONE, "", [])
    assert (row.layout, row.n_read, row.n_new, row.n_refused) == ("neuronpedia", 12, 6, 0)
    run = row.run
    assert run is not None
    assert (run.origin, run.n_tokens, run.n_contexts, run.n_alive, run.valid) == ("neuronpedia", 100_000, 1000, 3, None)
    sae = run.sae
    assert (sae.layer, sae.hook, sae.d_sae, sae.digest) == (6, "resid_pre", 3, "")
    assert (sae.model.name, sae.model.n_layers, sae.model.weights_digest) == ("GPT2-Small", 12, "")
    assert run.corpus.name == "openwebtext"
    activity = find_activity(run, 1)
    assert (activity.n_firing, activity.density, activity.max_activation) == (1000, 0.01, 5.0)
    assert (activity.n_contexts, activity.mean_activation) == (None, None)
    assert unpack_histogram(bytes(activity.histogram)).edges.tolist() == [0, 2, 4, 6, 8]
    assert shown(run, 1) == [
        {"tokens": [" word1", " river"], "values": [0.0, 5.0], "band": 0, "document": ("", "")},
        {"tokens": [" word1", " river", " é"], "values": [0.0, 4.0, 1.0], "band": 2, "document": ("", "")},
    ]
    top, bottom = logit_effects(activity.feature)
    tokens = tokens_of(sae.model)
    assert [(tokens.text_of(i), value) for i, value in top.pairs()] == [(" river", 1.5), (" bank", 1.25)]
    assert [(tokens.text_of(i), value) for i, value in bottom.pairs()] == [(" the", -0.5)]
    label = activity.feature.label
    assert label is not None
    assert (label.text, label.source, label.explainer, label.author_name) == (
        "rivers and banks 1", "model", "gpt-4o-mini", "ann",
    )  # fmt: skip
    assert Phrase.objects.filter(text="rivers and banks 1").exists()
    columns = columns_of(run)
    assert columns.n_firing.tolist() == [1000] * 3
    assert columns.max_activation.tolist() == [4, 5, 6]


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    imported(write_folder(tmp_path))
    before, epoch = everything(), SAE.objects.get().label_epoch
    row = imported(tmp_path)
    assert (row.state, row.n_new, row.n_changed, row.n_same) == (State.DONE, 0, 0, 6)
    assert everything() == before
    assert SAE.objects.get().label_epoch == epoch


def test_what_changed_is_changed_and_nothing_else(tmp_path: Path) -> None:
    first = imported(write_folder(tmp_path)).run
    assert first is not None
    columns_of(first)
    kept = [find_activity(first, 0), shown(first, 0)]
    write_lines(
        tmp_path / "features/batch-0.jsonl.gz", [feature(0), feature(1, frac_nonzero=0.5), feature(2), feature(3)]
    )
    write_lines(
        tmp_path / "explanations/batch-0.jsonl.gz",
        [explanation(0, "rivers and banks 0"), explanation(1, "seas"), explanation(2, "rivers and banks 2")],
    )
    row = imported(tmp_path)
    assert (row.n_new, row.n_changed, row.n_same) == (1, 2, 4)
    run = Run.objects.get()
    assert (run.pk, run.revision, run.n_alive, run.n_dense) == (first.pk, 1, 4, 1)
    assert columns_of(run).density.tolist() == [0.01, 0.5, 0.01, 0.01]
    assert [find_activity(run, 0), shown(run, 0)] == kept
    sea = Feature.objects.get(index=1).label
    assert sea is not None
    assert sea.text == "seas"
    old = Label.objects.get(text="rivers and banks 1")
    assert old.withdrawn_at is not None
    assert run.sae.label_epoch == 2


def test_a_person_s_label_stays(tmp_path: Path) -> None:
    imported(write_folder(tmp_path))
    own = factories.make_label(Feature.objects.get(index=1), "mine", author=factories.make_user())
    write_lines(tmp_path / "explanations/batch-0.jsonl.gz", [explanation(1, "seas")])
    assert imported(tmp_path).n_changed == 1
    assert Feature.objects.get(index=1).label == own


def contexts_by_text() -> dict[str, Context]:
    texts = factories.texts_of(Run.objects.select_related("sae__model").get())
    return {texts[context.number]: context for context in Context.objects.all()}


def test_examples_that_changed_move_their_citations(tmp_path: Path) -> None:
    imported(write_folder(tmp_path))
    texts = contexts_by_text()
    assert set(texts) == {f" word{i} river{more}" for i in range(3) for more in ("", " é")}
    write_lines(tmp_path / "activations/batch-0.jsonl.gz", [activation(1, [" word0", " river"], [3.0, 0.0])])
    row = imported(tmp_path)
    assert row.n_changed == 1
    run = row.run
    assert run is not None
    assert [example["tokens"] for example in shown(run, 1)] == [[" word0", " river"]]
    assert find_activity(run, 1).max_activation == 3.0
    by_text = contexts_by_text()
    assert by_text[" word0 river"].number == texts[" word0 river"].number
    assert bytes(by_text[" word0 river"].features) != bytes(texts[" word0 river"].features)
    assert len(bytes(by_text[" word1 river"].features)) < len(bytes(texts[" word1 river"].features))


def test_one_text_is_kept_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "f.jsonl", [feature(0), feature(1)])
    same = [activation(i, [" a", " b"], [1.0, 2.0 + i], dataIndex=f"d{i}", dataSource="web") for i in (0, 1)]
    again = activation(0, [" a", " b"], [1.0, 2.0], binMin=0, binContains=0.5)
    run = imported(write_lines(tmp_path / "a.jsonl", [*same, again]).parent).run
    assert run is not None
    context = Context.objects.get()
    assert (context.document_id, context.document_source) == ("d0", "web")
    assert len(shown(run, 0)) == len(shown(run, 1)) == 1


def test_lines_that_are_wrong_are_told_and_the_rest_comes(tmp_path: Path) -> None:
    write_folder(tmp_path, 2)
    good = (tmp_path / "features/batch-0.jsonl.gz").read_bytes()
    bad = b'{"broken\n\n' + json.dumps(feature(5, modelId="gemma")).encode() + b"\n" + json.dumps(feature(1)).encode()
    (tmp_path / "features/batch-0.jsonl.gz").write_bytes(good + gzip.compress(bad + b"\n"))
    lines = [activation(9, ["a"], [1.0]), activation(0, ["a"], [1.0, 2.0]), activation(1, ["ok"], [1.0])]
    write_lines(tmp_path / "activations/batch-1.jsonl", lines)
    write_lines(tmp_path / "notes.jsonl", [{"some": "thing"}])
    row = imported(tmp_path)
    assert (row.state, row.n_new, row.n_refused) == (State.DONE, 4, 6)
    told = [(fault["file"].split("/")[-1], fault["line"], fault["why"]) for fault in row.faults]
    assert [place[:2] for place in told] == [
        ("notes.jsonl", None),
        ("batch-0.jsonl.gz", 3), ("batch-0.jsonl.gz", 5), ("batch-0.jsonl.gz", 6),
        ("batch-1.jsonl", 1), ("batch-1.jsonl", 2),
    ]  # fmt: skip
    for (_, _, why), part in zip(
        told,
        ("no feature, activation or explanation", "not JSON", "gemma/6-res-jb", "there twice", "no record", "2 values"),
        strict=True,
    ):
        assert part in why


def test_a_file_that_was_cut_off_gives_what_it_holds(tmp_path: Path) -> None:
    write_folder(tmp_path, 400)
    path = tmp_path / "features/batch-0.jsonl.gz"
    write_lines(path, (feature(i, vectorLabel=str(7**i)) for i in range(400)))
    path.write_bytes(path.read_bytes()[:-2000])
    row = imported(tmp_path)
    n = Activity.objects.count()
    assert 0 < n < 400
    assert row.faults[0]["file"].endswith("features/batch-0.jsonl.gz")
    assert (row.faults[0]["line"], "ends too early" in row.faults[0]["why"]) == (n + 1, True)
    assert row.n_refused == 1 + (400 - n) * 3  # what is said of the features that are missing


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"x.jsonl": [{"a": 1}]}, "None of its files is an export"),
        ({"x.txt": [{"a": 1}]}, "none of the files that are read here"),
        ({"a.jsonl": [feature(0)], "b.jsonl": [feature(0, layer="7-res-jb")]}, "2 sources"),
        ({"featurescope.json": [{"format": "featurescope", "version": 2}]}, "version 2"),
        ({"a.jsonl": [feature(0, frac_nonzero="x")]}, "None of its records can be used"),
    ],
)
def test_what_is_no_export_is_refused_whole(tmp_path: Path, files: dict[str, Any], why: str) -> None:
    for name, records in files.items():
        write_lines(tmp_path / name, records)
    row = imported(tmp_path)
    assert row.state == State.REFUSED
    assert why in row.error
    assert not Run.objects.exists()
    assert not LanguageModel.objects.exists()


def test_explanations_alone_label_what_is_here(tmp_path: Path) -> None:
    run = imported(write_folder(tmp_path / "all")).run
    path = write_lines(tmp_path / "more.jsonl", [explanation(2, "new words", "e9"), explanation(7, "of no feature")])
    row = imported(path)
    assert (row.state, row.n_new, row.n_refused, row.run) == (State.DONE, 1, 1, run)
    assert Label.objects.get(outside_id="e9").feature.index == 2
    assert Run.objects.get().revision == 0


def test_batches_that_come_one_by_one_make_one_run(tmp_path: Path) -> None:
    one, two = feature(0, topkCosSimIndices=[5], topkCosSimValues=[0.5]), feature(5)
    for name, record in (("one", one), ("two", two)):
        write_lines(tmp_path / name / "f.jsonl", [record])
        words = [f" {name}", " river"]
        write_lines(tmp_path / name / "a.jsonl", [activation(int(record["index"]), words, [1.0, 0.0])])
        imported(tmp_path / name)
        assert not relatives_of(Feature.objects.get(index=0), None).decoder or name == "two"
    run = Run.objects.get()
    assert [near.feature.index for near in relatives_of(Feature.objects.get(index=0), None).decoder] == [5]
    assert (run.n_alive, run.revision, run.sae.d_sae) == (2, 1, 6)
    assert columns_of(run).present.tolist() == [True, False, False, False, False, True]
    assert shown(run, 0)[0]["tokens"] == [" one", " river"]
    assert shown(run, 5)[0]["tokens"] == [" two", " river"]


def test_without_the_number_of_tokens_counts_are_not_made_up(tmp_path: Path) -> None:
    run = imported(write_lines(tmp_path / "f.jsonl", [feature(0), feature(1, frac_nonzero=0.0)])).run
    assert run is not None
    assert run.n_tokens == 0
    assert [find_activity(run, i).n_firing for i in (0, 1)] == [None, 0]
    assert columns_of(run).n_firing.tolist() == [1, 0]
    assert Corpus.objects.get().name == "not stated"


def test_bands_follow_from_the_counts_and_not_from_the_file(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "f.jsonl", [feature(0), feature(1, freq_hist_data_bar_heights=[], freq_hist_data_bar_values=[])]
    )
    lows = [0.0, 1.6, 3.2, 4.8, 6.4]  # as many intervals as SAEDashboard has
    interval = [
        activation(i, [f" {i} {low}"], [low + 0.5], binMin=low, binContains=0.2) for i in (0, 1) for low in lows
    ]
    run = imported(write_lines(tmp_path / "a.jsonl", interval).parent).run
    assert run is not None
    # 40, 70, 90 and 100 % of its activations lie below 2, 4, 6 and 8.
    assert [round(e["values"][0], 1) for e in shown(run, 0)] == [6.9, 5.3, 3.7, 2.1, 0.5]
    assert [e["band"] for e in shown(run, 0)] == [1, 1, 2, 3, 4]
    assert [e["band"] for e in shown(run, 1)] == [1, 1, 2, 3, 4]


def test_a_worker_that_was_killed_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the record at which it is killed: what comes of it is what comes of one that was not."""
    monkeypatch.setattr(reading, "COMMIT_EVERY", 2)
    imported(write_folder(tmp_path, 5))
    whole = everything()
    for model in (Import, Label, Activity, Context, Run, Feature, SAE, LanguageModel, Corpus):
        model.objects.all().delete()

    n_told = 0

    def killed_at(last: int) -> Any:
        def watch(where: dict[str, Any]) -> None:
            nonlocal n_told
            n_told += 1
            if n_told == last:
                raise KeyboardInterrupt

        return watch

    from jobs import imports

    row = imports.add_path(tmp_path, "", None, ask=False)
    for last in (3, 4, 2, 5):
        n_told = 0
        with pytest.raises(KeyboardInterrupt):
            read(row.pk, killed_at(last))
        assert not Run.objects.exists()
    read(row.pk)
    row.refresh_from_db()
    assert (row.state, row.n_read, row.n_new, row.n_refused) == (State.DONE, 20, 10, 0)
    assert everything() == whole
    assert not imports.scratch(row.pk).exists()


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.transfer import write

    def fails(*args: Any) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(write, "write_labels", fails)
    row = imported(write_folder(tmp_path))
    assert row.state == State.REFUSED
    assert "the disk is full" in row.error
    assert not (Run.objects.exists() or Feature.objects.exists() or LanguageModel.objects.exists())


def test_one_that_was_deleted_meanwhile_writes_nothing(tmp_path: Path) -> None:
    from jobs import imports

    row = imports.add_path(write_folder(tmp_path), "", None, ask=False)
    read(row.pk, lambda where: Import.objects.filter(pk=row.pk).delete())
    assert not Run.objects.exists()


def test_models_of_this_site_keep_apart(tmp_path: Path) -> None:
    here = factories.make_model("gpt2-small")
    row = imported(write_folder(tmp_path))
    assert row.run is not None
    assert row.run.sae.model != here
    assert row.run.sae.model.slug == "gpt2-small-2"


def test_an_export_without_our_notes_is_neuronpedia_s(world: factories.World, tmp_path: Path) -> None:
    """What those files can say comes back: densities, values, tokens, logit effects, explanations."""
    folder = exported(world.run, tmp_path)
    for path in folder.rglob("featurescope*"):
        if path.is_file():
            path.unlink()
    for path in folder.rglob("featurescope/*"):
        path.unlink()
    row = imported(folder)
    run = row.run
    assert run is not None
    assert (row.state, row.n_refused, run.n_tokens) == (State.DONE, 0, 0)
    for old in Activity.objects.filter(run=world.run).select_related("feature"):
        new = find_activity(run, old.index)
        assert (new.density, new.max_activation) == (old.density, old.max_activation)
        was = [one for one in examples_of(world.run, old).firing if one.example.band == 0]
        now = [one for one in examples_of(run, new).firing if one.example.band == 0]
        assert [one.example.values.tolist() for one in now] == [one.example.values.tolist() for one in was]
        mine, theirs = (logit_effects(activity.feature) for activity in (old, new))
        for before, after in zip(mine, theirs, strict=True):
            assert np.array_equal(before.values, after.values)
    assert {label.text for label in Label.objects.filter(feature__sae=run.sae)} >= {"cities, by Ada", "“ river”"}
