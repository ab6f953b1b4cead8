"""Freezing: the same gives the same digest, what changes makes another one, and nothing of it needs the database."""

import json
import re
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from django.contrib.auth.models import User

from features.evidence import NotFound, examples_of, find_activity, logit_effects
from features.knowledge import collecting, labelling, notes
from features.knowledge.rules import Refused
from features.models import Feature, Freezing, Kind, Run, Snapshot
from features.passages import excerpt, in_context, pieces_html, whole
from features.sharing import canonical, freezing, rendering, shapes
from features.sharing.freezing import Damaged, body_of, chain_of, freeze
from features.sharing.taking import BUILDERS, take
from features.vocabulary import tokens_of
from tests.factories import (
    HOSTILES,
    NAMED,
    SPLITS,
    World,
    make_features,
    make_label,
    make_run,
    make_sae,
    make_user,
)

INDEX = 9
KINDS = ["feature", "comparison", "run", "collection"]


@pytest.fixture
def named(world: World) -> dict[str, dict[str, object]]:
    """What names one thing of each kind."""
    collection = collecting.create(world.user, "Words of weather", "Which fire when it <b>rains</b>", shared=True)
    rows = list(Feature.objects.filter(sae=world.sae, index__in=[INDEX, HOSTILES, NAMED]))
    collecting.add(collection, [row.pk for row in rows], world.user)
    sae = world.sae.slug
    return {
        "feature": {"sae": sae, "index": INDEX},
        "comparison": {"a": f"{sae}/{INDEX}", "b": f"{sae}/{HOSTILES}"},
        "run": {"run": world.run.pk},
        "collection": {"collection": collection.slug},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_freezing_the_same_twice_gives_the_same_digest(kind: str, named: dict[str, dict], world: World):
    first = freeze(kind, named[kind], world.user)
    again = freeze(kind, named[kind], make_user("grace"))
    assert first == again
    assert [row.by_name for row in first.freezings.all()] == [world.user.username, "grace"]
    assert Snapshot.objects.count() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_is_its_own_canonical_json_and_reads_back(kind: str, named: dict[str, dict], world: World):
    snapshot = freeze(kind, named[kind], world.user)
    body = body_of(snapshot)
    assert canonical.digest_of(body) == snapshot.digest
    assert canonical.canonical(canonical.parse(body, limit=1 << 24)) == body
    frozen = shapes.read(body)
    assert frozen.kind == snapshot.kind == kind
    assert canonical.canonical(json.loads(frozen.model_dump_json())) == body, "the form loses nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_shown_without_a_query(kind: str, named: dict[str, dict], world: World, django_assert_num_queries):
    snapshot = freeze(kind, named[kind], world.user)
    with django_assert_num_queries(0):
        html = rendering.evidence_html(freezing.read(snapshot))
    assert "<script" not in html
    assert world.model.weights_digest in html
    assert world.sae.digest in html


def test_provenance_is_whole(world: World):
    frozen = freezing.read(freeze("feature", {"sae": world.sae.slug, "index": INDEX}, world.user))
    (source,) = frozen.sources
    assert source.model.weights_digest == world.model.weights_digest
    assert source.model.tokenizer_digest == world.model.tokenizer_digest
    assert (source.sae.digest, source.sae.hook, source.sae.layer) == (world.sae.digest, "resid_post", 6)
    assert source.run is not None
    assert source.run.corpus.digest == world.corpus.digest
    assert source.run.settings == world.run.settings
    assert source.run.provenance == world.run.provenance
    assert source.run.created_at == world.run.created_at


def test_a_feature_holds_every_number_of_its_page(world: World):
    content = freezing.read(freeze("feature", {"sae": world.sae.slug, "index": INDEX}, world.user)).content
    assert isinstance(content, shapes.Feature)
    assert content.activity is not None
    activity = find_activity(world.run, INDEX)
    for name in ("density", "n_firing", "n_contexts", "max_activation", "mean_activation"):
        assert getattr(content.activity, name) == getattr(activity, name)
    live = examples_of(world.run, activity)
    shown = [*live.firing, *live.near_misses, *live.silent]
    assert len(content.activity.examples) == len(shown)
    for frozen, example in zip(content.activity.examples, shown, strict=True):
        assert frozen.token_ids == example.token_ids.tolist()
        assert frozen.positions == [int(p) for p in example.example.positions]
        assert np.array_equal(np.asarray(frozen.values, np.float32), example.example.values)
    positive, negative = logit_effects(activity.feature)
    assert [effect.id for effect in content.positive] == positive.ids.tolist()
    assert [effect.id for effect in content.negative] == negative.ids.tolist()


@pytest.mark.parametrize("index", [INDEX, SPLITS, HOSTILES])
def test_its_passages_are_those_of_the_page(world: World, index: int):
    """Tokens out of the snapshot read as those of the model's vocabulary: highlights, tips, split characters."""
    content = freezing.read(freeze("feature", {"sae": world.sae.slug, "index": index}, world.user)).content
    assert isinstance(content, shapes.Feature)
    few, tokens = rendering.tokens_from(content.tokens), tokens_of(world.model)
    activity = find_activity(world.run, index)
    for shown in examples_of(world.run, activity).firing:
        args = (shown.token_ids, shown.example, activity.max_activation)
        assert excerpt(few, *args) == excerpt(tokens, *args)
        before, middle, after = in_context(few, *args)
        assert middle == excerpt(tokens, *args)
        said = re.sub("<[^>]+>", "", "".join(pieces_html(part) for part in (before, middle.pieces, after)))
        assert said == re.sub("<[^>]+>", "", pieces_html(whole(tokens, *args).pieces))


def test_values_are_exact_float32():
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32) * np.float32(1e-3)
    written = shapes.float32s(values)
    assert np.array_equal(np.asarray(written, np.float32), values)


def test_a_change_makes_another_one_that_names_the_one_before(world: World):
    named = {"sae": world.sae.slug, "index": INDEX}
    first = freeze("feature", named, world.user)
    labelling.give([Feature.objects.get(sae=world.sae, index=INDEX)], "words of winter", world.user)
    second = freeze("feature", named, world.user)
    assert second != first
    assert chain_of(second).before == [first]
    assert [row.snapshot for row in chain_of(first).after] == [second]
    assert "words of winter" in second.title
    assert "words of winter" not in body_of(first).decode()


def test_going_back_to_what_it_was_is_the_first_snapshot_again(world: World):
    named = {"sae": world.sae.slug, "index": INDEX}
    feature = Feature.objects.get(sae=world.sae, index=INDEX)
    first = freeze("feature", named, world.user)
    notes.tag([feature.pk], ["weather"], world.user)
    second = freeze("feature", named, world.user)
    notes.untag([feature.pk], "weather")
    third = freeze("feature", named, world.user)
    assert third == first
    assert [row.supersedes for row in Freezing.objects.order_by("pk")] == [None, first, second]


def test_another_run_is_another_subject(world: World):
    other = make_run(world.sae, world.corpus)
    one = freeze("run", {"run": world.run.pk}, world.user)
    two = freeze("run", {"run": other.pk}, world.user)
    assert one != two
    assert chain_of(two).before == []


def test_a_feature_without_a_run_is_what_its_weights_say(world: World):
    sae = make_sae(world.model, "bare")
    make_features(sae)
    snapshot = freeze("feature", {"sae": "bare", "index": 1}, world.user)
    frozen = freezing.read(snapshot)
    assert frozen.sources[0].run is None
    assert "Nothing had been read" in rendering.evidence_html(frozen)


def test_seeds_beyond_what_json_holds_exactly_are_kept_as_text(world: World):
    Run.objects.filter(pk=world.run.pk).update(seed=2**62 + 1, settings={"seed": 2**62 + 1, "of": [2**60]})
    run = freezing.read(freeze("run", {"run": world.run.pk}, world.user)).sources[0].run
    assert run is not None
    assert (run.seed, run.settings) == (str(2**62 + 1), {"seed": str(2**62 + 1), "of": [str(2**60)]})


@pytest.mark.parametrize(
    ("kind", "wrong", "sentence"),
    [
        ("feature", {}, "sae is missing"),
        ("feature", {"sae": "tiny-lm-l6"}, "index is missing"),
        ("feature", {"sae": "tiny-lm-l6", "index": "x"}, "index is a number"),
        ("feature", {"sae": "tiny-lm-l6", "index": "٣"}, "index is a number"),
        ("comparison", {"a": "tiny-lm-l6/3"}, "b is missing"),
        ("comparison", {"a": "nothing", "b": "tiny-lm-l6/3"}, "names no feature"),
        ("nothing", {}, "There is nothing of the kind “nothing”"),
    ],
)
def test_what_is_not_named_is_asked_for(world: World, kind: str, wrong: dict, sentence: str):
    with pytest.raises(Refused, match=sentence):
        take(kind, wrong, world.user)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("feature", {"sae": "none", "index": 1}),
        ("feature", {"sae": "tiny-lm-l6", "index": 10**9}),
        ("feature", {"sae": "tiny-lm-l6", "index": 3, "run": 999}),
        ("run", {"run": 999}),
        ("collection", {"collection": "none"}),
        ("comparison", {"a": "tiny-lm-l6/3", "b": "none/3"}),
    ],
)
def test_what_is_not_there_cannot_be_frozen(world: World, kind: str, wrong: dict):
    with pytest.raises(NotFound):
        freeze(kind, wrong, world.user)
    assert not Snapshot.objects.exists()


def test_somebody_elses_private_collection_is_not_frozen(world: World):
    collection = collecting.create(make_user("grace"), "Mine alone")
    with pytest.raises(NotFound):
        freeze("collection", {"collection": collection.slug}, world.user)


def test_a_row_that_was_changed_is_not_shown(world: World):
    snapshot = freeze("run", {"run": world.run.pk}, world.user)
    body = body_of(snapshot).replace(b"0.83", b"0.99")
    Snapshot.objects.filter(pk=snapshot.pk).update(packed=zlib.compress(body))
    with pytest.raises(Damaged, match="do not match its digest"):
        body_of(Snapshot.objects.get())
    Snapshot.objects.filter(pk=snapshot.pk).update(packed=b"nothing")
    with pytest.raises(Damaged):
        body_of(Snapshot.objects.get())


def test_figures_stand_alone(world: World, named: dict[str, dict]):
    for kind in KINDS:
        for name, svg in rendering.figures_of(freezing.read(freeze(kind, named[kind], world.user))).items():
            assert name.endswith(".svg")
            root = ElementTree.fromstring(svg)  # noqa: S314 - our own
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert "href" not in svg


def test_a_label_says_who_wrote_it(world: World, user: User):
    make_label(Feature.objects.get(sae=world.sae, index=INDEX), "rain", user)
    content = freezing.read(freeze("feature", {"sae": world.sae.slug, "index": INDEX}, world.user)).content
    assert isinstance(content, shapes.Feature)
    assert content.label is not None
    assert (content.label.text, content.label.author_name, content.label.source) == ("rain", user.username, "person")


def test_every_kind_has_a_builder():
    assert BUILDERS.keys() == {kind.value for kind in Kind}
