"""Look at an SAE: what its files hold, and whether it belongs to a model."""

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from jobs.management.commands.extract import add_reading_arguments, ensure_tables
from jobs.requests import ExtractionRequest
from jobs.sources import absolute, corpus_source, sae_located

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.engine.check import Verdict
    from jobs.engine.corpus import Context
    from jobs.engine.model import LoadedModel
    from jobs.engine.saes import SAE

SHOWN = 5  # trials


class Command(BaseCommand):
    help = (
        "Load an SAE, print what it is, run it on a little text and say VALID or NOT VALID. Exits with 1 if not valid."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("sae", help="slug, folder, file, hub id or checkpoint:ID")
        parser.add_argument("--model", required=True, help="slug, folder, .gguf file, package:NAME or hub id")
        parser.add_argument("--corpus", help="slug or file, as for extract (default: the demo's text)")
        parser.add_argument("--tokens", type=int, default=4096, help="of the corpus that are read (default: 4096)")
        parser.add_argument("--context", type=int, default=128, help="tokens in a window (default: 128)")
        parser.add_argument("--skip-first", type=int, default=0, help="positions of each window to leave out")
        add_reading_arguments(parser)
        parser.add_argument("--json", action="store_true", help="print everything as JSON on the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        from jobs.engine.errors import EngineError

        ensure_tables()
        try:
            verdict = self.verdict(options)
        except (EngineError, ValueError) as error:
            raise CommandError(str(error)) from error
        if not verdict.valid:
            sys.exit(1)

    def verdict(self, options: dict[str, Any]) -> "Verdict":
        """Raises EngineError, and ValueError where the options cannot be."""
        from jobs.engine.check import Verdict, check
        from jobs.engine.saes import load_sae
        from jobs.work.loaded import device_for, read_model

        request = _request(options)
        device = device_for(request.device)
        located, overrides = sae_located(request)
        sae = load_sae(located.path, device=device, **overrides)
        self.show_card(sae)
        model = read_model(request, device)
        for step in check(model, sae, _contexts(request, model), request.skip_first):
            if isinstance(step, Verdict):
                self.show(step, sae, as_json=options["json"])
                return step
            self.stderr.write(step + " ...")
        raise AssertionError("a check ends with its verdict")

    def show_card(self, sae: "SAE") -> None:
        card = sae.card()
        files, notes = card.pop("files"), card.pop("notes")
        self.stdout.write(self.style.MIGRATE_HEADING(str(sae.source.path)))
        for name, value in card.items():
            if value is not None:
                shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
                self.stdout.write(f"  {name.replace('_', ' '):<16} {shown}")
        for file in files:  # type: ignore[attr-defined]
            self.stdout.write(f"  {'file':<16} {file['name']}, {file['bytes']:,} bytes")
        for note in notes:  # type: ignore[attr-defined]
            self.stdout.write(f"  {'note':<16} {note}")

    def show(self, verdict: "Verdict", sae: "SAE", *, as_json: bool) -> None:
        quality, loss = verdict.quality, verdict.cross_entropy
        self.stdout.write(f"\n  {'read at':<16} {_place(verdict)}" + (", where it fits best" if verdict.found else ""))
        self.stdout.write(f"  {'tokens':<16} {quality.n_tokens:,}")
        self.stdout.write(f"  {'EV':<16} {quality.explained_variance:.4f}")
        self.stdout.write(f"  {'L0':<16} {quality.l0:.2f}")
        recovered = loss and loss.recovered
        if loss and recovered is not None:
            self.stdout.write(
                f"  {'CE recovered':<16} {recovered:.4f} ({loss.delta:+.3f} nats, {loss.n_tokens:,} tokens)"
            )
        else:
            self.stdout.write(f"  {'CE recovered':<16} not measured here")
        word = self.style.SUCCESS("VALID") if verdict.valid else self.style.ERROR("NOT VALID")
        self.stdout.write(f"\n{word}")
        if not verdict.valid:
            self.show_reasons(verdict)
        if as_json:
            self.stdout.write(json.dumps(_as_json(verdict, sae)))

    def show_reasons(self, verdict: "Verdict") -> None:
        for reason in verdict.reasons:
            self.stdout.write(f"  {reason}")
        self.stdout.write(f"  Most likely: {verdict.cause}")
        self.stdout.write("  Nearest of what was tried, on a few contexts:")
        for trial in verdict.trials[:SHOWN]:
            self.stdout.write(f"    EV {trial.explained_variance:>8.3f}  L0 {trial.l0:>7.1f}  {trial.advice}")


def _request(options: dict[str, Any]) -> ExtractionRequest:
    from jobs.demo import build_corpus

    names = (
        "model",
        "sae",
        "tokens",
        "context",
        "skip_first",
        "layer",
        "hook",
        "hook_out",
        "k",
        "centred",
        "device",
        "dtype",
    )
    asked = {name: options[name] for name in names} | {"corpus": options["corpus"] or str(build_corpus())}
    if options["tokens"] < 1 or options["context"] < 2:
        raise ValueError("--tokens must be at least 1 and --context at least 2.")
    return ExtractionRequest(**asked | {name: absolute(asked[name]) for name in ("model", "sae", "corpus")})


def _contexts(request: ExtractionRequest, model: "LoadedModel") -> "Sequence[Context]":
    from jobs.engine.corpus import cut_contexts, read_corpus
    from jobs.engine.errors import CorpusError

    corpus = corpus_source(request)
    contexts = list(cut_contexts(read_corpus(corpus), model.tokenize, request.context, request.tokens))
    if not contexts:
        raise CorpusError(f"{corpus} gives no token.")
    return contexts


def _place(verdict: "Verdict") -> str:
    point, out = verdict.point, verdict.point_out
    here = f"{point.hook} of layer {point.layer}"
    return here if out is None else f"{here}, writes {out.hook} of layer {out.layer}"


def _as_json(verdict: "Verdict", sae: "SAE") -> dict[str, Any]:
    loss = verdict.cross_entropy
    return {
        "valid": verdict.valid,
        "reasons": verdict.reasons,
        "cause": verdict.cause,
        "card": sae.card() | {"hook": verdict.point.hook, "layer": verdict.point.layer},
        "quality": asdict(verdict.quality),
        "cross_entropy": None if loss is None else asdict(loss) | {"recovered": loss.recovered, "delta": loss.delta},
        "trials": [asdict(trial) for trial in verdict.trials],
    }
