"""Train a TopK SAE on a model and a text, and keep it with the record of its training."""

import json
import shutil
import time
from argparse import ArgumentParser
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

if TYPE_CHECKING:
    from jobs.engine.capture import Capture
    from jobs.engine.corpus import Context
    from jobs.engine.evaluate import Evaluation
    from jobs.engine.model import LoadedModel
    from jobs.engine.training import SAEWeights, TrainingSettings


class Command(BaseCommand):
    help = "Train a TopK SAE and write it as a folder in the SAELens layout, with training.json beside the weights."

    def add_arguments(self, parser: ArgumentParser) -> None:
        from jobs.engine.training import TrainingSettings

        parser.add_argument("--model", required=True, help="a folder, a .gguf file, package:NAME or a hub id")
        parser.add_argument("--corpus", required=True, help="the text to train on")
        parser.add_argument("--held-out", required=True, help="text to measure on, none of it in --corpus")
        parser.add_argument("--layer", type=int, required=True)
        parser.add_argument("--hook", default="resid_post")
        parser.add_argument("--skip-first", type=int, default=0, help="positions of each window to leave out")
        parser.add_argument("--out", type=Path, required=True, help="the folder to make; it must not exist")
        for setting in fields(TrainingSettings):
            kind = type(setting.default)
            parser.add_argument(f"--{setting.name.replace('_', '-')}", type=kind, default=setting.default)

    def handle(self, *args: Any, **options: Any) -> None:
        from jobs.engine.errors import EngineError
        from jobs.engine.training import TrainingSettings

        settings = TrainingSettings(**{f.name: options[f.name] for f in fields(TrainingSettings)})
        if options["out"].exists():
            raise CommandError(f"{options['out']} exists already; choose another --out or remove it.")
        try:
            self.train(settings, options)
        except EngineError as error:
            raise CommandError(str(error)) from error

    def train(self, settings: "TrainingSettings", options: dict[str, Any]) -> None:
        from jobs.engine.capture import Capture
        from jobs.engine.corpus import corpus_facts, cut_contexts, read_corpus
        from jobs.engine.model import load_model

        facts = {name: corpus_facts(options[name]) for name in ("corpus", "held_out")}
        model = load_model(options["model"])
        capture = Capture(model, options["hook"], options["layer"], options["skip_first"])
        texts = {
            name: list(cut_contexts(read_corpus(options[name]), model.tokenize, settings.context)) for name in facts
        }
        capture.calibrate(texts["corpus"][:64])
        started = time.monotonic()
        weights = self.run(capture, texts["corpus"], settings)
        record = {
            "settings": asdict(settings),
            "model": {"name": model.name, "weights": model.weights_digest, "tokenizer": model.tokenizer_digest},
            "hook": {
                "name": options["hook"],
                "layer": options["layer"],
                "sink_threshold": capture.sink_threshold,
                "skip_first": capture.skip_first,
            },
            "corpus": asdict(facts["corpus"]) | {"n_tokens": _n_tokens(texts["corpus"])},
            "held_out": asdict(facts["held_out"]) | {"n_tokens": _n_tokens(texts["held_out"])},
            "seconds": round(time.monotonic() - started, 1),
        }
        self.save(weights, capture, texts, record, options["out"])

    def run(self, capture: "Capture", contexts: "list[Context]", settings: "TrainingSettings") -> "SAEWeights":
        from jobs.engine.training import train

        made: SAEWeights | None = None
        with tqdm(unit="step", desc="training", dynamic_ncols=True, mininterval=1) as bar:
            for step, weights in train(capture, contexts, settings):
                made = weights
                bar.total = step.n_steps
                bar.set_postfix(fvu=f"{step.fvu:.3f}", dead=step.dead, refresh=False)
                bar.update()
        if made is None:
            raise CommandError("The training text holds only special tokens and sinks.")
        return made

    def save(
        self,
        weights: "SAEWeights",
        capture: "Capture",
        texts: "dict[str, list[Context]]",
        record: dict[str, Any],
        out: Path,
    ) -> None:
        """Write into a scratch folder, measure what was written, then move it into place."""
        from jobs.engine.provenance import provenance

        scratch = out.with_name(f".{out.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        _write_saelens(scratch, weights, capture.model, capture.hook, capture.layer)
        measured = self.measure(scratch, capture, texts)
        record |= {
            "result": {name: asdict(e.quality) | {"dead_fraction": round(e.dead, 5)} for name, e in measured.items()},
            "loss_curve": [[s.step, round(s.fvu, 4), s.dead] for s in weights.history if s.step % 20 in (0, 1)],
            "provenance": provenance(capture.model.device),
        }
        (scratch / "training.json").write_text(json.dumps(record, indent=1) + "\n")
        scratch.rename(out)
        for name, e in measured.items():
            self.stdout.write(
                f"{name}: explained variance {e.quality.explained_variance:.4f}, L0 {e.quality.l0:.2f}, "
                f"dead {e.dead:.2%} of {weights.W_dec.shape[0]} features, on {e.quality.n_tokens} tokens"
            )

    def measure(self, folder: Path, capture: "Capture", texts: "dict[str, list[Context]]") -> "dict[str, Evaluation]":
        from jobs.engine.evaluate import Evaluation, evaluate
        from jobs.engine.saes import load_sae

        sae = load_sae(folder)
        measured = {}
        for name in ("held_out", "corpus"):
            contexts = texts[name][:2500]  # of the training text a part will do: it is there to compare
            with tqdm(total=len(contexts), unit="context", desc=f"measuring on {name}", dynamic_ncols=True) as bar:
                for step in evaluate(capture, sae, contexts):
                    if isinstance(step, Evaluation):
                        measured[name] = step
                    else:
                        bar.update(step - bar.n)
        return measured


def _n_tokens(contexts: "list[Context]") -> int:
    return sum(len(c.token_ids) for c in contexts)


def _write_saelens(folder: Path, weights: "SAEWeights", model: "LoadedModel", hook: str, layer: int) -> None:
    """``cfg.json`` and ``sae_weights.safetensors``, as SAELens 6 reads them; half precision halves the file."""
    from safetensors.torch import save_file

    d_in, d_sae = weights.W_enc.shape
    config = {
        "architecture": "topk",
        "d_in": d_in,
        "d_sae": d_sae,
        "k": weights.k,
        "dtype": "float16",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {
            "hook_name": f"blocks.{layer}.hook_{hook}",
            "model_name": model.name,
            "sae_lens_version": "6.0.0",
            "trained_with": "featurescope",
        },
    }
    (folder / "cfg.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({n: t.half().contiguous() for n, t in weights.tensors().items()}, folder / "sae_weights.safetensors")
