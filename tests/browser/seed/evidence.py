"""SAEs, runs and a map."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import numpy as np
from django.contrib.auth.models import User
from django.urls import reverse

from features import vectors
from features.models import SAE, Feature, Layout, Run
from features.store.layout import pack_clusters, pack_points
from tests import factories

D_SAE, N_CONTEXTS = 120, 60
LABELLED = 20  # the first of six features that people have dealt with
PROVENANCE: dict[str, Any] = {
    "commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False, "python": "3.11.9", "platform": "Linux",
    "packages": {"torch": "2.13.0", "transformers": "5.23.0"}, "device": "cpu (x86_64)", "dtype": "float32",
}  # fmt: skip
WORKER = "local-1@lab"


@dataclass(frozen=True)
class Made:
    """``run`` of ``sae`` is the newest of two; ``imported`` is that of another SAE, ``not_valid`` that of a third."""

    user: User
    sae: SAE
    features: list[Feature]
    run: Run
    earlier: Run
    imported: Run
    not_valid: Run


def make() -> Made:
    """ada's world: every kind of run, and a map of the largest SAE."""
    shards = [_shard(number) for number in range(3)]
    world = factories.make_world(D_SAE, N_CONTEXTS, provenance=PROVENANCE, work=shards)
    features = list(world.sae.features.order_by("index"))
    earlier = factories.make_run(world.sae, world.corpus, world.user)
    Run.objects.filter(pk=earlier.pk).update(created_at=world.run.created_at - timedelta(days=9))
    factories.fill_run(earlier, features, 20, seed=4)
    draw(world.sae)
    return Made(world.user, world.sae, features, world.run, earlier, _imported(world), _not_valid(world))


def _shard(number: int) -> dict[str, Any]:
    took = {"tokens": 900, "seconds": 2.5, "worker": WORKER, "device": "cpu", "attempts": 1, "note": ""}
    return {"number": number} | took


def _imported(world: factories.World) -> Run:
    unknown = dict.fromkeys(["explained_variance", "fvu", "cosine", "shrinkage", "l0", "valid"])
    sae = factories.make_sae(
        world.model, "tiny-lm-l8-imported", d_sae=40, layer=8, digest="", source="tiny-lm/8-res", format="neuronpedia"
    )
    origin = {"origin": "neuronpedia", "provenance": {"imported": {"key": "a"}}}
    run = factories.make_run(sae, world.corpus, world.user, **unknown | origin)
    factories.fill_run(run, factories.make_features(sae, 1), 20)
    return run


def _not_valid(world: factories.World) -> Run:
    sae = factories.make_sae(world.model, "tiny-lm-l3", d_sae=30, layer=3, architecture="jumprelu", k=None)
    why = "Its reconstruction explains less than the mean."
    run = factories.make_run(sae, world.corpus, world.user, valid=False, why_not_valid=why)
    factories.fill_run(run, factories.make_features(sae, 2), 20)
    return run


def draw(sae: SAE) -> None:
    """A map of four clusters, and the decoder that it would be of."""
    rng = np.random.default_rng(0)
    cluster = np.arange(sae.d_sae) % 5 - 1
    middles = np.array([[0, 0], [-0.6, -0.5], [0.6, -0.5], [0.5, 0.6], [-0.5, 0.6]])
    xy = middles[cluster + 1] + rng.normal(0, 0.1, (sae.d_sae, 2))
    names = ["places and people", "seasons", "months and what they bring to the north", "punctuation"]
    clusters = [
        {"number": n, "name": name, "size": sae.d_sae // 5, "x": float(x), "y": float(y), "why": f"24 labels: {name}"}
        for n, (name, (x, y)) in enumerate(zip(names, middles[1:], strict=True))
    ]
    Layout.objects.create(
        sae=sae,
        method="umap",
        settings={"n_neighbors": 15, "min_dist": 0.05, "metric": "cosine", "seed": 0},
        provenance=PROVENANCE | {"kept": 0.61, "packages": {"umap-learn": "0.5.12"}},
        xy=pack_points(xy.clip(-1, 1)),
        cluster=pack_clusters(cluster),
        clusters=clusters,
        seconds=4.2,
    )
    vectors.keep(vectors.place_of(sae), [rng.normal(size=(sae.d_sae, sae.d_out)).astype(np.float32)])


def paths(made: Made) -> dict[str, str]:
    """Of pages about features, and of those that are the same on every site."""
    slug, run = made.sae.slug, made.run
    names = ("home", "models", "search", "collections", "jobs", "job_new", "workers", "imports", "checkpoints", "keys")
    features = reverse("features", args=[slug])
    return {name: reverse(name) for name in names} | {
        "model": reverse("model", args=[made.sae.model.slug]),
        "sae": reverse("sae", args=[slug]),
        "features": features,
        "filtered": f"{features}?q=winter",
        "feature": reverse("feature", args=[slug, LABELLED]),
        "dead feature": reverse("feature", args=[slug, factories.DEAD]),
        "imported feature": reverse("feature", args=[made.imported.sae.slug, 7]),
        "run": run.get_absolute_url(),
        "imported run": made.imported.get_absolute_url(),
        "not valid": made.not_valid.get_absolute_url(),
        "map": reverse("map", args=[slug]),
        "no map": reverse("map", args=[made.not_valid.sae.slug]),
        "searched": f"{reverse('search')}?q=winter",
        "nothing found": f"{reverse('search')}?q=zyzzyva",
        "compare": f"{reverse('compare')}?{urlencode({'a': f'{slug}/{LABELLED}', 'b': f'{slug}/{LABELLED + 3}'})}",
        "compare_runs": f"{reverse('compare_runs')}?{urlencode({'a': run.pk, 'b': made.earlier.pk})}",
        "compare_saes": f"{reverse('compare_saes')}?{urlencode({'a': slug, 'b': made.not_valid.sae.slug})}",
        "not found": "/saes/none/",
        "login": reverse("login"),
    }
