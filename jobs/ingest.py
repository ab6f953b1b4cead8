"""Write what an extraction found into the feature database, all of it in one transaction or nothing."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Q
from numpy.typing import NDArray

from features.models import SAE as SAERow
from features.models import Activity, Context, Feature, Label, Run
from features.models.run import DENSE
from features.store.contexts import pack_ids
from features.store.examples import Examples, pack_examples
from features.store.histogram import pack_histogram
from features.store.ranked import Ranked, pack_ranked
from jobs.engine import decoder
from jobs.engine.corpus import CorpusFacts
from jobs.engine.examples import Selection, select_examples
from jobs.engine.labels import LabelExample, Labeller, RuleLabel
from jobs.engine.model import LoadedModel
from jobs.engine.quality import Quality
from jobs.engine.saes import SAE
from jobs.engine.state import State
from jobs.engine.statistics import FIRST_BIN, N_BINS
from jobs.engine.tokens import TokenisedCorpus
from jobs.models import Job
from jobs.progress import Progress, Stopped
from jobs.registry import Registered, register

ROWS = 500  # a bulk insert


@dataclass(frozen=True)
class Findings:
    """What a run found, and what it was made from."""

    model: LoadedModel
    sae: SAE
    sae_source: str
    corpus: CorpusFacts
    corpus_source: str
    contexts: TokenisedCorpus
    state: State
    quality: Quality
    settings: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    why_not_valid: str

    @property
    def n_firing(self) -> NDArray[np.int64]:
        return np.asarray(self.state.sums.n_firing.cpu())


@dataclass(frozen=True)
class DecoderFacts:
    """Packed logits and neighbours of every feature, and the ids of its top logits [F, n]."""

    logits: list[bytes]
    neighbours: list[bytes]
    top_logits: NDArray[np.int64]
    norms: NDArray[np.float32]
    cosines: NDArray[np.float32]


def ingest(findings: Findings, job: Job, progress: Progress) -> Run:
    """Make the Run and everything that belongs to it. Slow computing comes first, outside the transaction."""
    selection = select_examples(findings.state, findings.settings["per_band"])
    progress.stage("working out logit effects and neighbours")
    facts = decoder_facts(findings.model, findings.sae, progress)
    progress.stage("labelling by rule")
    labels = rule_labels(findings, selection, facts, progress)
    progress.stage("writing to the database")
    with transaction.atomic():
        rows = register(findings.model, findings.sae, findings.sae_source, findings.corpus, findings.corpus_source)
        if rows.new_sae:
            _write_features(rows.sae, facts)
        run = _write_run(findings, rows, job)
        features = dict(Feature.objects.filter(sae=rows.sae).values_list("index", "pk"))
        _write_activities(run, findings, selection, features)
        _write_contexts(run, findings, selection)
        _write_labels(run, labels, features)
        # The job ends with its run: one that was cancelled or taken over meanwhile leaves nothing behind.
        if not Job.objects.finish(job.pk, progress.worker, run):
            raise Stopped
    return run


def decoder_facts(model: LoadedModel, sae: SAE, progress: Progress) -> DecoderFacts:
    """Logit effects and neighbours, a chunk of features at a time."""
    logits: list[bytes] = []
    top: list[NDArray[np.int64]] = []
    near: list[bytes] = []
    for chunk in progress.pulse(decoder.logit_effects(model, sae)):
        top.append(chunk.ids[:, 0].numpy())
        logits += _packed(chunk)
    for chunk in progress.pulse(decoder.neighbours(sae)):
        near += _packed(chunk)
    norms, cosines = decoder.decoder_norms(sae).numpy(), decoder.encoder_decoder_cosine(sae).numpy()
    return DecoderFacts(logits, near, np.concatenate(top), norms, cosines)


def rule_labels(
    findings: Findings, selection: Selection, facts: DecoderFacts, progress: Progress
) -> Iterable[tuple[int, RuleLabel]]:
    """A label by rule for every feature that has enough examples for one."""
    rows = selection.rows
    token_ids = {int(n): findings.contexts[int(n)].token_ids for n in np.unique(rows.context)}
    tokenizer = findings.model.tokenizer
    vocabulary = [tokenizer.decode([i]) for i in range(len(tokenizer))]
    labeller = Labeller(vocabulary, token_ids.values())
    ends = np.cumsum(rows.length)
    found = []
    for feature in progress.pulse(np.unique(rows.feature).tolist()):
        examples = []
        for row in range(*selection.of(feature).indices(len(rows))):
            ids = token_ids[int(rows.context[row])]
            values = np.zeros(len(ids), np.float32)
            cut = slice(ends[row] - rows.length[row], ends[row])
            values[rows.positions[cut]] = rows.values[cut]
            examples.append(LabelExample(ids, values, int(rows.peak[row])))
        if label := labeller.label(examples, facts.top_logits[feature].tolist()):
            found.append((feature, label))
    return found


def _packed(chunk: decoder.RankedChunk) -> Iterator[bytes]:
    """Each feature's lists in one blob."""
    for ids, values in zip(chunk.ids.numpy(), chunk.values.numpy(), strict=True):
        yield pack_ranked(*(Ranked(i, v) for i, v in zip(ids, values, strict=True)))


def _write_features(sae: SAERow, facts: DecoderFacts) -> None:
    columns = zip(facts.norms.tolist(), facts.cosines.tolist(), facts.logits, facts.neighbours, strict=True)
    Feature.objects.bulk_create(
        (
            Feature(
                sae=sae,
                index=index,
                decoder_norm=norm,
                encoder_decoder_cosine=cosine,
                logits=logits,
                neighbours=near,
            )
            for index, (norm, cosine, logits, near) in enumerate(columns)
        ),
        batch_size=ROWS,
    )


def _write_run(findings: Findings, rows: Registered, job: Job) -> Run:
    n_documents, n_contexts, n_special, n_sinks = (int(n) for n in findings.state.counts)
    density = findings.n_firing / findings.quality.n_tokens
    quality = findings.quality
    return Run.objects.create(
        sae=rows.sae,
        corpus=rows.corpus,
        owner_id=job.owner_id,
        settings=findings.settings,
        provenance=findings.provenance,
        seed=findings.settings["seed"],
        n_documents=n_documents,
        n_contexts=n_contexts,
        n_tokens=quality.n_tokens,
        n_special=n_special,
        n_sinks=n_sinks,
        n_alive=int((density > 0).sum()),
        n_dense=int((density > DENSE).sum()),
        explained_variance=quality.explained_variance,
        fvu=quality.fvu,
        cosine=quality.cosine,
        shrinkage=quality.shrinkage,
        l0=quality.l0,
        valid=not findings.why_not_valid,
        why_not_valid=findings.why_not_valid,
        seconds=findings.seconds,
    )


def _write_activities(run: Run, findings: Findings, selection: Selection, features: dict[int, int]) -> None:
    sums = findings.state.sums
    n_firing, n_contexts = findings.n_firing, sums.n_contexts.cpu().numpy()
    means = (sums.total.cpu().numpy() / np.maximum(n_firing, 1)).tolist()
    histograms = sums.histogram.cpu().numpy().reshape(-1, N_BINS)
    ends = np.cumsum(selection.rows.length, dtype=np.int64)

    def rows() -> Iterator[Activity]:
        for index in range(findings.state.d_sae):
            examples = _examples(selection, ends, selection.of(index))
            yield Activity(
                run=run,
                feature_id=features[index],
                index=index,
                n_firing=int(n_firing[index]),
                n_contexts=int(n_contexts[index]),
                density=int(n_firing[index]) / run.n_tokens,
                max_activation=float(examples.values.max()) if len(examples) else 0.0,
                mean_activation=means[index],
                histogram=pack_histogram(FIRST_BIN, histograms[index]),
                examples=pack_examples(examples),
            )

    _insert(Activity, rows())


def _examples(selection: Selection, ends: NDArray[np.int64], cut: slice) -> Examples:
    rows = selection.rows
    lengths = rows.length[cut]
    last = ends[cut][-1] if len(lengths) else 0
    tokens = slice(int(last - lengths.sum()), int(last))
    return Examples(
        contexts=rows.context[cut],
        bands=selection.band[cut],
        peaks=rows.peak[cut],
        ends=np.cumsum(lengths),
        positions=rows.positions[tokens],
        values=rows.values[tokens],
    )


def _write_contexts(run: Run, findings: Findings, selection: Selection) -> None:
    cited = defaultdict(list)
    for number, feature in zip(selection.rows.context.tolist(), selection.rows.feature.tolist(), strict=True):
        cited[number].append(feature)
    decode = findings.model.tokenizer.decode

    def rows() -> Iterator[Context]:
        for number in sorted(cited):
            context = findings.contexts[number]
            yield Context(
                run=run,
                number=number,
                document_id=context.document_id,
                document_source=context.source,
                offset=context.offset,
                token_ids=pack_ids(context.token_ids),
                # PostgreSQL holds no U+0000 in text; the ids keep it.
                text=decode(context.token_ids.tolist()).replace("\x00", "\N{REPLACEMENT CHARACTER}"),
                features=pack_ids(sorted(set(cited[number]))),
            )

    _insert(Context, rows())


def _write_labels(run: Run, labels: Iterable[tuple[int, RuleLabel]], features: dict[int, int]) -> None:
    """New labels by rule take the place of older ones, unless the run is not valid; a person's label stays."""
    made = Label.objects.bulk_create(
        (
            Label(
                feature_id=features[index],
                run=run,
                source=Label.Source.RULE,
                text=label.text,
                rule=label.rule,
                precision=label.precision,
                n_held_out=label.n_held_out,
            )
            for index, label in labels
        ),
        batch_size=ROWS,
    )
    kept = Q(label__source=Label.Source.PERSON) if run.valid else Q(label__isnull=False)
    locked = Feature.objects.select_for_update(of=("self",)).filter(sae=run.sae)
    open_to_rules = set(locked.exclude(kept).values_list("pk", flat=True))
    shown = [Feature(pk=m.feature_id, label=m) for m in made if m.feature_id in open_to_rules]
    Feature.objects.bulk_update(shown, ["label"], batch_size=ROWS)


def _insert(kind: Any, rows: Iterator[Any]) -> None:
    """Insert in batches, without holding all rows in memory."""
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS:
            kind.objects.bulk_create(batch)
            batch = []
    kind.objects.bulk_create(batch)
