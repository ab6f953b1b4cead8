"""Drawing a map: one worker lays out the features of an SAE, finds clusters and names them, in one piece."""

import time
from typing import Any

import numpy as np
import torch
from django.db import transaction
from torch import Tensor

from features.models import SAE as SAERow
from features.models import Feature, Label, Layout
from features.store.layout import pack_clusters, pack_points
from features.store.ranked import unpack_ranked
from features.vocabulary import tokens_of
from jobs.engine import layout
from jobs.engine.cluster_names import Name, Terms, name_clusters
from jobs.engine.code import code_version
from jobs.engine.errors import SettingsError
from jobs.engine.provenance import PACKAGES, device_name, package_versions
from jobs.engine.saes import load_sae
from jobs.models import Job
from jobs.progress import Progress, Stopped
from jobs.requests import ExtractionRequest, MapRequest
from jobs.sources import sae_located
from jobs.work.loaded import device_for

METHOD = "umap"
TOP_TOKENS = 10
AT_ONCE = 2000
NAMED_BY = (*PACKAGES, "umap-learn", "scikit-learn", "numba")


def draw(job: Job, progress: Progress) -> None:
    """Write the Layout and end the job. Raises EngineError, and Stopped where the job is no longer this worker's."""
    began, asked = time.monotonic(), MapRequest(**job.settings)
    row = SAERow.objects.select_related("model").filter(slug=asked.sae).first()
    if row is None:
        raise SettingsError(f"There is no SAE {asked.sae} here any more.")
    device = device_for("auto")
    progress.stage("loading the SAE", part=(2, 100), device=device_name(device))
    directions = _directions(row, device)
    progress.stage("finding the nearest directions", part=(5, 100))
    chunks = list(progress.pulse(layout.neighbours(directions, asked.n_neighbors - 1)))
    ids, cosines = (torch.cat([getattr(chunk, name) for chunk in chunks]).numpy() for name in ("ids", "values"))
    progress.stage("laying out the features", part=(25, 100))
    xy = layout.place(ids, cosines, layout.principal(directions, asked.seed), asked.min_dist, asked.seed)
    progress.stage("finding clusters", part=(85, 100))
    cluster = layout.clusters(xy, asked.seed)
    progress.stage("naming the clusters", part=(92, 100))
    names = name_clusters(cluster, _terms(row, progress), layout.middles(directions, cluster))
    progress.stage("writing to the database", part=(98, 100))
    found = Layout(
        sae=row,
        method=METHOD,
        settings=asked.as_json(),
        provenance=code_version()
        | {"packages": package_versions(NAMED_BY), "device": device_name(device)}
        | {"kept": layout.kept(ids, xy, asked.seed)},
        xy=pack_points(xy),
        cluster=pack_clusters(cluster),
        clusters=[_cluster(number, name, xy[cluster == number]) for number, name in enumerate(names)],
    )
    with transaction.atomic():
        found.seconds = time.monotonic() - began
        found.save()
        # The job ends with its map: one that was cancelled or taken over meanwhile leaves nothing behind.
        if not Job.objects.finish(job.pk, progress.worker, None):
            raise Stopped


def _directions(row: SAERow, device: str) -> Tensor:
    """Decoder rows [d_sae, d_out] of the SAE that the features were extracted from. Raises EngineError."""
    located, overrides = sae_located(ExtractionRequest(model=row.model.slug, sae=row.slug, corpus=""))
    sae = load_sae(located.path, device=device, **overrides)
    if sae.digest != row.digest:
        raise SettingsError(
            f"The SAE {row.source} on this worker is not what the features were extracted from (its digest is "
            f"{sae.digest[:12]}, not {row.digest[:12]}): put the old files back, or extract from the new ones."
        )
    return sae.W_dec


def _terms(row: SAERow, progress: Progress) -> Terms:
    """What the labels that are shown say, and which tokens each feature makes likelier.

    Read in parts: a heartbeat that fails closes the connection, and with it a query that is being read.
    """
    tokens, terms = tokens_of(row.model), Terms()
    features = Feature.objects.filter(sae=row).values_list("index", "label__text", "label__source", "logits")
    for start in progress.pulse(range(0, row.d_sae, AT_ONCE)):
        for index, label, source, logits in features.filter(index__gte=start, index__lt=start + AT_ONCE):
            top = unpack_ranked(bytes(logits), 1)[0].ids[:TOP_TOKENS]
            terms.add(index, label or "", tokens.texts(top), by_rule=source == Label.Source.RULE)
    return terms


def _cluster(number: int, name: Name, points: Any) -> dict[str, Any]:
    x, y = np.median(points, axis=0).tolist()
    return {"number": number, "name": name.text, "size": len(points), "x": x, "y": y, "why": name.why}
