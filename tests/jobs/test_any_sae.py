"""Any SAE on any model, from files to pages: every number against brute force, in as many shards as one likes."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError
from django.test import Client
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from features.models import SAE as SAERow
from features.models import Activity, LanguageModel, Run
from jobs import checkpoints
from jobs.engine.corpus import Context, cut_contexts, read_corpus
from jobs.engine.saes import SAE, load_sae
from jobs.models import Checkpoint
from jobs.work.loaded import BATCH
from tests.engine import families, tiny, written
from tests.engine.brute_force import Seen, feature_truth, quality_truth
from tests.engine.families import D_MODEL
from tests.engine.written import F
from tests.hub import LocalHub
from tests.jobs.helpers import rows_of
from tests.jobs.test_checkpoints import read, uploaded
from tests.jobs.test_extract_command import CONTEXT, compare, extract

HEADS, NEURONS = 24, 24  # widths at z and mlp_act
N_CONTEXTS = 40
LOOKED_AT = (0, 1, 5, F - 1)  # features whose pages and whole evidence are compared
Write = Callable[[Path], Path]

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Case:
    """``site``: as pages say it. ``reads``, ``writes``: keys of Points. ``said``: to the command, beside the place."""

    name: str
    write: Write
    site: str
    reads: str
    writes: str = ""
    said: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def skip_transcoder(folder: Path) -> Path:
    w = written.weights(D_MODEL)
    hooks = "blocks.1.ln2.hook_normalized -> blocks.1.hook_mlp_out"
    return written.saelens(folder, w | {"W_skip": 0.1 * w["W_enc"][:, :D_MODEL]}, "skip_transcoder", hooks)


def across_layers(folder: Path) -> Path:
    hooks = "blocks.0.hook_resid_post -> blocks.1.hook_mlp_out"
    return written.saelens(folder, written.weights(D_MODEL), "transcoder", hooks)


def transcoder(folder: Path) -> Path:
    hooks = "blocks.1.mlp.hook_in -> blocks.1.hook_mlp_out"
    return written.saelens(folder, written.weights(D_MODEL), "transcoder", hooks)


def at_heads(folder: Path) -> Path:
    w = written.weights(HEADS)
    return written.saelens(folder, w, "standard", "blocks.1.attn.hook_z", reshape_activations="hook_z")


def at_neurons(folder: Path) -> Path:
    w = written.weights(NEURONS) | {"threshold": torch.full((F,), 0.1)}
    return written.saelens(folder, w, "jumprelu", "blocks.1.mlp.hook_post")


def in_the_stream(folder: Path) -> Path:
    return written.saelens(folder, written.weights(D_MODEL), "standard", "blocks.1.hook_resid_post")


CASES = [
    Case("skip transcoder", skip_transcoder, "layer 1 · mlp_in_normalized → mlp_out", "mlp_in_normalized", "mlp_out"),
    Case("transcoder", transcoder, "layer 1 · mlp_in → mlp_out", "mlp_in", "mlp_out"),
    Case("across layers", across_layers, "layer 0 · resid_post → layer 1 · mlp_out", "before", "mlp_out"),
    Case("z", at_heads, "layer 1 · z", "z"),
    Case("mlp_act", at_neurons, "layer 1 · mlp_act", "mlp_act"),
    Case("module", lambda p: written.sparsify(p / "layers.1.mlp", D_MODEL), "layer 1 · mlp.output", "mlp.output"),
    Case("centred", in_the_stream, "layer 1 · resid_post", "centred", said={"centred": True}),
    Case(
        "groupmax", lambda p: written.sparsify(p / "layers.1", D_MODEL, activation="groupmax"), "layer 1 · resid_post",
        "resid_post",
    ),
    Case(
        "rank_by", lambda p: written.llamascopium(p, D_MODEL, "blocks.1.hook_resid_post", "topk"),
        "layer 1 · resid_post", "resid_post",
    ),
    Case(
        "never fires", lambda p: written.llamascopium(p, D_MODEL, "blocks.1.hook_resid_post", "jumprelu", n_zero=3),
        "layer 1 · resid_post", "resid_post",
    ),
    Case("no relu", lambda p: written.qwen_scope(p, D_MODEL, 1, -8.0), "layer 1 · resid_post", "resid_post"),
    Case("npz", lambda p: written.gemma_scope(p, D_MODEL, 1), "layer 1 · resid_post", "resid_post"),
]  # fmt: skip


class Plain:
    """The model through plain transformers, a window at a time: nothing of the engine's capture takes part."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder / "model").float()
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        corpus = read_corpus(folder / "corpus.jsonl")
        windows = cut_contexts(corpus, lambda texts: tokenizer(texts).input_ids, CONTEXT)
        self.contexts = [next(windows) for _ in range(N_CONTEXTS)]
        self.n_tokens = sum(len(context.token_ids) for context in self.contexts)
        self.block = self.model.model.layers[1]
        self.norm: Any = getattr(self.block, "pre_feedforward_layernorm", None)

    def points(self, context: Context) -> dict[str, Tensor]:
        """[length, width] of every point that a case names, and what the router gives."""
        block, found = self.block, {}
        modules = {"before": self.model.model.layers[0], "resid_post": block, "mlp.output": block.mlp}
        if self.norm is not None:
            modules |= {"mlp_in": self.norm, "mlp_out": block.post_feedforward_layernorm}
            inputs = {"z": block.self_attn.o_proj, "mlp_act": block.mlp.down_proj, "norm": self.norm}
        else:
            modules, inputs = modules | {"router": block.mlp.gate}, {}

        def keep(name: str, value: Any) -> None:
            found[name] = (value[0] if isinstance(value, tuple) else value).detach().reshape(len(context.token_ids), -1)

        hooks = [m.register_forward_hook(lambda _m, _i, o, n=n: keep(n, o)) for n, m in modules.items()]
        hooks += [m.register_forward_pre_hook(lambda _m, i, n=n: keep(n, i[0])) for n, m in inputs.items()]
        with torch.no_grad():
            self.model(torch.from_numpy(context.token_ids.astype(np.int64))[None])
        for hook in hooks:
            hook.remove()
        if "norm" in found:
            x = found["norm"]
            found["mlp_in_normalized"] = x / (x.square().mean(-1, keepdim=True) + self.norm.eps).sqrt()
        x = found["resid_post"]
        return found | {"centred": x - x.mean(-1, keepdim=True)}

    def directions(self, W_dec: Tensor, point: str) -> Tensor | None:
        """What a unit of each feature adds to the residual stream, but for the norms' division."""
        block, written = self.block, W_dec
        if point == "mlp.output":
            return None
        if point == "z":
            written = W_dec @ block.self_attn.o_proj.weight.T * (1 + block.post_attention_layernorm.weight)
        if point == "mlp_act":
            written = W_dec @ block.mlp.down_proj.weight.T * (1 + block.post_feedforward_layernorm.weight)
        return written


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with everything that may be forgotten: gains of 1 + w, norms behind its sublayers, wide heads."""
    return written_model(tmp_path_factory.mktemp("dense"), "Gemma2")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_model(tmp_path_factory.mktemp("mixture"), "Olmoe")


def written_model(folder: Path, name: str) -> Path:
    families.write(next(f for f in families.FAMILIES if f.name == name), folder / "model")
    tiny.write_corpus(folder / "corpus.jsonl", n=10)
    return folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> Plain:
    return Plain(folder)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BATCH, "cpu", 4 * CONTEXT)  # several shards of a small corpus
    monkeypatch.setattr("jobs.work.loaded.settle", lambda: None)  # it walks through all that tests have imported


@pytest.fixture
def reader(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_user("reader"))
    return client


@torch.no_grad()
def brute_force(plain: Plain, sae: SAE, case: Case, threshold: float | None) -> list[Seen]:
    found = []
    for context in plain.contexts:
        points = plain.points(context)
        x = points[case.reads]
        acts, y = sae.encode(x), points[case.writes or case.reads]
        mask = ~np.isin(context.token_ids, [0, 1, 2]) & (x.norm(dim=-1) <= (threshold or torch.inf)).numpy()
        found.append(Seen(context, acts.numpy(), y.numpy(), sae.decode(acts, x).numpy(), mask))
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_number_is_that_of_brute_force(
    case: Case, folder: Path, plain: Plain, reader: Client, tmp_path: Path
) -> None:
    path = case.write(tmp_path / "sae")
    facts = extract(folder, sae=path, tokens=plain.n_tokens, shards=1, **case.said)
    run, sae = Run.objects.get(pk=facts["run"]), load_sae(path, **case.said)
    seen = brute_force(plain, sae, case, run.provenance["sink_threshold"])
    check_figures(run, seen)
    effects = effects_of(plain, sae, case)
    for index in LOOKED_AT:
        got = reader.get(f"/api/v1/saes/{facts['sae']}/features/{index}").json()
        compare(got, seen, index, facts)
        check_effects(got["logits"], None if effects is None else effects[index])
    check_pages(run, case, reader)
    again = extract(folder, sae=run.sae.slug, tokens=plain.n_tokens, shards=3)
    check_same(run, Run.objects.get(pk=again["run"]))


def check_figures(run: Run, seen: list[Seen]) -> None:
    quality = quality_truth(seen)
    assert run.n_tokens == quality["n_tokens"]
    for name in ("explained_variance", "fvu", "cosine", "shrinkage", "l0"):
        assert getattr(run, name) == pytest.approx(quality[name], rel=1e-3, abs=1e-5), name
    activities = list(Activity.objects.filter(run=run).order_by("index"))
    assert [a.index for a in activities] == list(range(F))
    for activity in activities:
        truth = feature_truth(seen, activity.index)
        assert (activity.n_firing, activity.n_contexts) == (truth.n_firing, truth.n_contexts)
        assert activity.max_activation == pytest.approx(truth.max_activation, rel=1e-4)
    assert sum(a.n_firing or 0 for a in activities) > 100


def effects_of(plain: Plain, sae: SAE, case: Case) -> Tensor | None:
    directions = plain.directions(sae.W_dec, case.writes or case.reads)
    gain, unembedding = 1 + plain.model.model.norm.weight, plain.model.lm_head.weight
    return None if directions is None else (directions * gain @ unembedding.T).detach()


def check_effects(shown: dict[str, list[dict[str, Any]]], effects: Tensor | None) -> None:
    if effects is None:
        assert shown == {"top": [], "bottom": []}
        return
    for name, sign in (("top", 1), ("bottom", -1)):
        want = (effects * sign).sort(descending=True).values[:10] * sign
        assert [e["value"] for e in shown[name]] == pytest.approx(want.tolist(), rel=1e-3, abs=1e-5)
        assert [effects[e["token_id"]].item() for e in shown[name]] == pytest.approx(want.tolist(), rel=1e-3, abs=1e-5)


def check_pages(run: Run, case: Case, reader: Client) -> None:
    sae = run.sae
    assert sae.site == case.site
    features = [f"{sae.get_absolute_url()}features/{index}/" for index in LOOKED_AT]
    for address in (sae.get_absolute_url(), run.get_absolute_url(), *features, sae.model.get_absolute_url()):
        assert reader.get(address).status_code == 200, address
    assert case.site in reader.get(sae.get_absolute_url()).content.decode()
    answer = reader.get(f"/api/v1/saes/{sae.slug}").json()
    assert (answer["layer"], answer["hook"]) == (sae.layer, sae.hook)
    assert answer["hook_out"] == (case.writes or None)
    assert answer["layer_out"] == (1 if case.writes else None)
    assert answer["centred"] is bool(case.said)


def check_same(one: Run, other: Run) -> None:
    """Of one SAE, whose row the second run has found again; and of as many bytes, all the same."""
    assert (len(one.work), len(other.work)) == (1, 3)
    assert other.sae == one.sae == SAERow.objects.get()
    one_rows, other_rows = rows_of(one), rows_of(other)
    for name in ("activities", "contexts"):
        assert one_rows[name] == other_rows[name]
    assert one.experts == other.experts


def test_the_experts_are_those_of_brute_force(mixture: Path, reader: Client, tmp_path: Path) -> None:
    plain, case = Plain(mixture), CASES[-1]
    path = case.write(tmp_path / "sae")
    facts = extract(mixture, sae=path, tokens=plain.n_tokens, shards=1)
    run = Run.objects.get(pk=facts["run"])
    seen = brute_force(plain, load_sae(path), case, run.provenance["sink_threshold"])
    check_figures(run, seen)
    chosen = np.concatenate([experts_of(plain, one) for one in seen])  # [tokens, experts], bool
    acts = np.concatenate([one.acts[one.mask] for one in seen])
    router = {"router_layer": 1, "n_experts": families.N_EXPERTS, "per_token": families.PER_TOKEN}
    assert run.experts == router | {"shares": pytest.approx(chosen.mean(0))}
    listed = 0
    for index in range(F):
        got = reader.get(f"/api/v1/saes/{facts['sae']}/features/{index}").json()
        fires = acts[:, index] > 0
        together = chosen[fires].sum(0)
        share = together / max(1, fires.sum())
        want = {e: (share[e], share[e] / chosen[:, e].mean()) for e in np.flatnonzero(together >= 3)}
        shown = {e["expert"]: (e["share"], e["lift"]) for e in got["experts"]}
        assert shown.keys() == want.keys()
        assert all(shown[e] == pytest.approx(want[e]) for e in want)
        lifts = [e["lift"] for e in got["experts"]]
        assert lifts == sorted(lifts, reverse=True)
        assert got["router_layer"] == 1
        listed += len(lifts)
    assert listed > F
    check_pages(run, case, reader)
    page = reader.get(f"/saes/{facts['sae']}/features/0/").content.decode()
    assert "router of layer 1" in page
    check_same(run, Run.objects.get(pk=extract(mixture, sae=run.sae.slug, tokens=plain.n_tokens, shards=3)["run"]))


def experts_of(plain: Plain, one: Seen) -> np.ndarray:
    """Of unmasked tokens, which experts the router's largest logits name."""
    logits = plain.points(one.context)["router"][torch.from_numpy(one.mask)]
    chosen = torch.zeros_like(logits, dtype=torch.bool)
    return chosen.scatter_(1, logits.topk(families.PER_TOKEN).indices, True).numpy()


OVERRIDES: dict[str, Any] = {"layer": 0, "hook": "mlp_out", "k": 3, "centred": True}


def test_an_sae_that_was_added_in_the_browser(folder: Path, tmp_path: Path) -> None:
    path = written.llamascopium(tmp_path / "sae", D_MODEL, "blocks.1.hook_resid_post", "topk")
    checkpoint = read(uploaded(path, tmp_path, **OVERRIDES))
    assert checkpoint.state == Checkpoint.State.READY, checkpoint.error
    run = run_of(folder, sae=checkpoint.source)
    assert (run.sae.layer, run.sae.hook, run.sae.k, run.sae.centred) == tuple(OVERRIDES.values())
    assert (run.settings["layer"], run.settings["hook"]) == (0, "mlp_out")
    assert run.provenance["hook"] == ["mlp_out", 0, 3, "centred"]
    assert run.sae.source == run.provenance["sae"]["source"] == checkpoint.source
    shutil.rmtree(Path(settings.VAR_DIR) / "cache")
    for name in (run.sae.slug, checkpoint.source):
        again = run_of(folder, sae=name)
        assert (again.sae, again.l0, again.provenance["sae"]) == (run.sae, run.l0, run.provenance["sae"])
    assert run_of(folder, sae=checkpoint.source, layer=1).sae.layer == 1  # what the request says goes before


def test_what_a_transcoder_writes_moves_along_with_what_it_reads(folder: Path, tmp_path: Path) -> None:
    path = transcoder(tmp_path / "sae")
    run = run_of(folder, sae=path, layer=0)
    assert run.sae.site == "layer 0 · mlp_in → mlp_out"
    assert run_of(folder, sae=run.sae.slug).sae == run.sae
    assert run_of(folder, sae=run.sae.slug, layer=2).sae.site == "layer 2 · mlp_in → mlp_out"


def test_what_a_transcoder_writes_may_be_said_and_is_remembered(folder: Path, tmp_path: Path) -> None:
    path = written.saelens(tmp_path / "sae", written.weights(D_MODEL), "transcoder", "blocks.0.hook_resid_post")
    run = run_of(folder, sae=path, hook_out="blocks.1.hook_mlp_out")
    assert run.sae.site == "layer 0 · resid_post → layer 1 · mlp_out"
    assert run_of(folder, sae=run.sae.slug).sae == run.sae
    assert run_of(folder, sae=run.sae.slug, layer=1).sae.site == "layer 1 · resid_post → layer 2 · mlp_out"
    other = run_of(folder, sae=run.sae.slug, hook_out="blocks.2.hook_attn_out")
    assert other.sae.site == "layer 0 · resid_post → layer 2 · attn_out"


def test_a_hub_is_remembered_with_the_commit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written.sparsify(tmp_path / "layers.1.mlp", D_MODEL)
    with LocalHub() as hub:
        hub.point(monkeypatch, tmp_path / "hub")
        model, sae = hub.push("lab/tiny", folder / "model"), hub.push("lab/saes", sent(path, "layers.1.mlp"))
        run = run_of(folder, model="lab/tiny", sae="lab/saes/layers.1.mlp")
        lasting = f"lab/saes@{sae}/layers.1.mlp"
        assert run.sae.source == run.provenance["sae"]["source"] == lasting
        assert (run.sae.model.source, run.sae.model.revision) == ("lab/tiny", model)
        assert (run.provenance["model"]["source"], run.provenance["model"]["revision"]) == ("lab/tiny", model)
        for repo in ("lab/tiny", "lab/saes"):  # main moves on
            hub.push(repo, {"config.json": b"{}"})
        names = {"model": run.sae.model.slug, "sae": run.sae.slug}
        hub.point(monkeypatch, tmp_path / "hub", offline=True)
        assert run_of(folder, **names).sae == run.sae
        hub.point(monkeypatch, tmp_path / "another machine's")
        again = run_of(folder, **names)
        assert (again.sae, again.sae.source, again.sae.model.revision) == (run.sae, lasting, model)
        checkpoint = read(checkpoints.add_place(lasting, {}, None))
        assert run_of(folder, model=names["model"], sae=checkpoint.source).sae.source == checkpoint.source


def test_a_model_that_moves_takes_its_revision_along(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_the_stream(tmp_path / "sae")
    with LocalHub() as hub:
        hub.point(monkeypatch, tmp_path / "hub")
        commit = hub.push("lab/tiny", folder / "model")
        for name, revision in ((str(folder / "model"), ""), ("lab/tiny", commit), (str(folder / "model"), "")):
            run_of(folder, model=name, sae=path)
            model = LanguageModel.objects.get()
            assert (model.source, model.revision) == (name, revision)


def in_no_layer(folder: Path) -> Path:
    return written.saelens(folder, written.weights(D_MODEL), "standard", "resid_post")


def into_nothing(folder: Path) -> Path:
    return written.saelens(folder, written.weights(D_MODEL), "transcoder", "blocks.1.mlp.hook_in")


def wide(folder: Path) -> Path:
    return written.saelens(folder, written.weights(NEURONS), "standard", "blocks.1.hook_mlp_out")


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda p: written.sparsify(p / "layers.1", D_MODEL, signed=True), "extraction does not count negative"),
        (into_nothing, "whose files do not say what it writes"),
        (in_no_layer, "does not say which layer the SAE reads: give layer"),
        (wide, "reads vectors of width 24 (d_in), but model has width 16 at mlp_out of layer 1"),
    ],
)
def test_what_cannot_be_extracted_is_refused_in_one_sentence(
    write: Write, sentence: str, folder: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "sae")
    with pytest.raises(CommandError) as refused:
        extract(folder, sae=path)
    text = str(refused.value)
    assert sentence in text
    assert str(path) in text
    assert (text.count("\n"), text[-1], len(text) < 400) == (0, ".", True)
    assert not SAERow.objects.exists()


def run_of(folder: Path, **options: Any) -> Run:
    return Run.objects.select_related("sae__model").get(pk=extract(folder, tokens=200, **options)["run"])


def sent(path: Path, name: str) -> dict[str, bytes]:
    return {f"{name}/{file.name}": file.read_bytes() for file in path.iterdir()}
