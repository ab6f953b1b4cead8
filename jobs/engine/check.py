"""Does an SAE belong to a model? It is run on a little text as it was loaded, and on what it may have been made for."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.engine.capture import SINK_RATIO, SINK_SAMPLE, Capture, capture_of, moved_layer
from jobs.engine.corpus import Context
from jobs.engine.cross_entropy import CrossEntropy, cross_entropy
from jobs.engine.errors import SettingsError
from jobs.engine.extraction import check_widths
from jobs.engine.misreadings import Reading, as_loaded, readings
from jobs.engine.model import LoadedModel
from jobs.engine.points import Point, points_of, recording, run
from jobs.engine.quality import MIN_EXPLAINED_VARIANCE, Quality, QualitySums, why_not_valid
from jobs.engine.saes import SAE

BATCH = 16  # contexts of a forward pass
SURVEYED = 4  # contexts that other places and readings are tried on
CE_CONTEXTS = 4
CLEARLY = 0.8  # of what the SAE leaves unexplained as loaded: what leaves less fits clearly better


@dataclass(frozen=True)
class Trial:
    """How well the SAE does when read otherwise; ``advice`` says how.

    ``left``: what it leaves unexplained, as a share of what it leaves as loaded, on the same tokens.
    """

    advice: str
    left: float
    explained_variance: float
    l0: float


@dataclass(frozen=True)
class Verdict:
    """``reasons``: sentences against SAE and model belonging together, none if they do. ``cause``: the likeliest one.

    ``point``: where it was read; ``found``: the files did not say where, so the best place was taken.
    """

    point: Point
    point_out: Point | None
    quality: Quality
    cross_entropy: CrossEntropy | None
    reasons: list[str]
    cause: str | None
    trials: list[Trial]
    found: bool

    @property
    def valid(self) -> bool:
        return not self.reasons


@dataclass(frozen=True)
class _Try:
    """A reading of the SAE at a place."""

    reading: Reading
    point: Point
    point_out: Point | None = None

    @property
    def points(self) -> tuple[Point, Point]:
        return self.point, self.point_out or self.point

    @torch.inference_mode()
    def fit(self, x: Tensor, y: Tensor) -> "_Fit":
        """On activations [n, d] at its points; of no tokens nothing is explained."""
        if not len(x):
            return _Fit(1.0, 1.0, 0.0)
        found = self.reading.read(x, y)
        error = (found.y - found.y_hat).double().square().sum(-1)
        spread = (found.y - found.y.mean(0)).double().square().sum(-1)
        median, mean = (float(f(error) / f(spread).clamp_min(1e-30)) for f in (torch.median, torch.mean))
        return _Fit(median, mean, found.n_active / len(x))


@dataclass(frozen=True)
class _Fit:
    """Unexplained shares of the variance: ``mean`` is 1 - EV, ``median`` sets the median error against the median
    distance from the mean. Deep in a model a few tokens of huge norm, much alike in all layers, make up most of the
    variance, so places are compared by the median token; readings in one place, which may err on some tokens, by EV.
    """

    median: float
    mean: float
    l0: float

    def trial(self, advice: str, loaded: "_Fit", *, elsewhere: bool) -> Trial:
        ours, theirs = (self.median, loaded.median) if elsewhere else (self.mean, loaded.mean)
        left = ours / max(theirs, 1e-6)  # of next to nothing
        # A reading that overflows fits nothing.
        return Trial(advice, left if math.isfinite(left) else math.inf, 1 - self.mean, self.l0)


def check(model: LoadedModel, sae: SAE, contexts: Sequence[Context], skip_first: int = 0) -> Iterator[str | Verdict]:
    """Yield what is being done, and at last the Verdict. ``contexts``: a few thousand tokens.

    An SAE that says neither hook nor layer is read where it fits best. Raises SettingsError where nothing of the model
    is as wide as what the SAE reads, and SAELoadError where a transcoder does not say what it writes.
    """
    hook, layer = sae.hook, sae.layer
    places = points_of(model)
    if found := hook is None or layer is None:
        yield "looking for the place that it reads"
        best = _search(model, sae, [p for p in places if hook in (None, p.hook) and layer in (None, p.layer)], contexts)
        hook, layer = best.hook, best.layer
    capture = capture_of(model, sae, hook, layer, skip_first)
    check_widths(sae, capture)
    capture.calibrate(contexts[:SINK_SAMPLE])
    yield f"reading {sum(len(c.token_ids) for c in contexts):,} tokens at {capture.hook} of layer {layer}"
    quality = _quality(capture, sae, contexts)
    yield "measuring what it costs the model"
    loss = cross_entropy(capture, sae, contexts[:CE_CONTEXTS])
    yield "trying other layers, other hook points and other readings"
    tries = list(_tries(capture, sae, places))
    loaded, *fits = _run(capture, tries, contexts[:SURVEYED])
    trials = [
        fit.trial(attempt.reading.advice, loaded, elsewhere=attempt.point != capture.point)
        for fit, attempt in zip(fits, tries[1:], strict=True)
    ]
    trials.sort(
        key=lambda trial: round(trial.left, 2) if trial.left < math.inf else math.inf
    )  # of equals the plainest, which comes first
    reasons = why_not_valid(quality, sae.k, reported_l0=sae.reported_l0, cross_entropy=loss)
    reasons, cause = _judge(reasons, trials[0] if trials else None)
    yield Verdict(capture.point, capture.point_out, quality, loss, reasons, cause, trials, found)


def _quality(capture: Capture, sae: SAE, contexts: Sequence[Context]) -> Quality:
    sums, plain = QualitySums(sae.d_out), as_loaded(sae)
    for batch in capture.batches(contexts, BATCH):
        with torch.inference_mode():
            found = plain.read(batch.x[batch.mask], batch.y[batch.mask])
        sums.update(found.y, found.y_hat, found.n_active)
    return sums.result()


def _tries(capture: Capture, sae: SAE, places: Sequence[Point]) -> Iterator[_Try]:
    """The SAE as it was loaded first; then in other places, then read otherwise in its own."""
    point, out = capture.point, capture.point_out
    yield _Try(as_loaded(sae), point, out)
    by_name = {(p.hook, p.layer): p for p in places}
    for other in places:
        moved = None if out is None else by_name.get((out.hook, moved_layer(sae, other.layer)))
        here = (other.hook, other.layer) == (point.hook, point.layer)
        near = other.hook in (point.hook, "resid_post") or other.layer == point.layer
        if other.width != sae.d_in or here or not near or (out is not None and moved is None):
            continue
        advice = f"It was made for {_name(other)}, not for {_name(point)}: give that hook and layer."
        yield _Try(Reading(advice, as_loaded(sae).read), other, moved)
    for reading in readings(sae, capture.sink_threshold / SINK_RATIO):
        yield _Try(reading, point, out)


def _name(point: Point) -> str:
    return f"{point.hook} of layer {point.layer}"


def _run(capture: Capture, tries: Sequence[_Try], contexts: Sequence[Context]) -> list[_Fit]:
    activations = _activations(capture, list({point for t in tries for point in t.points}), contexts)
    return [t.fit(*_centred(capture, *(activations[point] for point in t.points))) for t in tries]


@torch.inference_mode()
def _activations(capture: Capture, points: Sequence[Point], contexts: Sequence[Context]) -> dict[Point, Tensor]:
    """float32 [n, width] at each of ``points``, of the same n tokens everywhere: the capture's, without the first of
    each context, where many models keep something of another kind. One context at a time goes through the model.
    """
    found: dict[Point, list[Tensor]] = {point: [] for point in points}
    for context in contexts:
        batch = capture.run([context])
        batch.mask[:, 0] = False
        with recording([point.place for point in points]) as record:
            run(capture.model, batch.token_ids)
        for number, point in enumerate(points):
            found[point].append(point.read(record[number], tuple(batch.token_ids.shape))[batch.mask])
    return {point: torch.cat(parts) for point, parts in found.items()}


def _centred(capture: Capture, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if not capture.centred:
        return x, y
    return x - x.mean(-1, keepdim=True), y if capture.point_out else y - y.mean(-1, keepdim=True)


def _judge(reasons: list[str], best: Trial | None) -> tuple[list[str], str | None]:
    """The reasons, with one more where ``best`` fits clearly better than as loaded, and the likeliest cause."""
    better = best is not None and best.left < CLEARLY
    if best is not None and better:
        share = f"{best.left:.0%} of the variance that it leaves unexplained now"
        reasons = [*reasons, f"Another reading fits clearly better: it leaves only {share}."]
    if not reasons:
        return [], None
    if best is None or not better or best.explained_variance < MIN_EXPLAINED_VARIANCE:
        return reasons, "Nothing that was tried fits: the SAE was probably made for another model, or is damaged."
    return reasons, f"{best.advice} Then EV is {best.explained_variance:.3f} and L0 {best.l0:.1f} on a few contexts."


def _search(model: LoadedModel, sae: SAE, places: Sequence[Point], contexts: Sequence[Context]) -> Point:
    """The place that the SAE fits best. Raises SettingsError where none is as wide as what it reads."""
    fitting = [point for point in places if point.width == sae.d_in]
    if not fitting:
        raise SettingsError(
            f"Nothing in {model.name} is {sae.d_in} wide, as what {sae.source.path} reads: it is of another model."
        )
    if sae.is_transcoder:
        sae.hook_point()  # says what is missing
    capture = capture_of(model, sae, fitting[0].hook, fitting[0].layer)
    capture.calibrate(contexts[:SINK_SAMPLE])
    tries = [_Try(as_loaded(sae), point) for point in fitting]
    fits = _run(capture, tries, contexts[:SURVEYED])
    return min(zip(fits, fitting, strict=True), key=lambda pair: pair[0].median)[1]
