"""Hook points of every family, against what plain hooks on its modules see."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from jobs.engine.capture import Capture
from jobs.engine.corpus import Context
from jobs.engine.errors import SettingsError
from jobs.engine.hook_names import HOOKS
from jobs.engine.model import LoadedModel
from jobs.engine.points import hook_points, resolve
from tests.engine.families import D_MODEL, FAMILIES, N_EXPERTS, N_LAYERS, PER_TOKEN, Family, load

LENGTHS = (9, 6)


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Family, LoadedModel]:
    return request.param, load(request.param, tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="module")
def contexts() -> list[Context]:
    ids = np.random.default_rng(0).integers(3, 300, size=(2, max(LENGTHS))).astype(np.int32)
    return [Context(i, "", "", 0, row[:length]) for i, (row, length) in enumerate(zip(ids, LENGTHS, strict=True))]


class Seen:
    """What went into and came out of every module for one context, by name; and the residual stream."""

    def __init__(self, family: Family, model: LoadedModel, context: Context) -> None:
        self.family, whole = family, model.engine.hf_model
        self.into: dict[str, Tensor] = {}
        self.out: dict[str, Tensor] = {}
        self.modules = dict(whole.named_modules())
        handles = [h for name, module in self.modules.items() for h in self._watch(name, module)]
        ids = torch.from_numpy(context.token_ids.astype(np.int64))[None]
        with torch.no_grad():
            result = whole(input_ids=ids, output_hidden_states=True, use_cache=False)
        for handle in handles:
            handle.remove()
        self.stream = [state[0] for state in result.hidden_states]  # the last one is behind the final norm

    def _watch(self, name: str, module: nn.Module) -> list[Any]:
        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            found = args[0] if args else kwargs.get("hidden_states")
            if isinstance(found, Tensor) and found.is_floating_point():
                self.into[name] = found.reshape(-1, found.shape[-1]).clone()

        def after(_: nn.Module, args: Any, output: Any) -> None:
            found = output[0] if isinstance(output, tuple) else output
            if isinstance(found, Tensor):
                self.out[name] = found.reshape(-1, found.shape[-1])

        return [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]

    def name(self, layer: int, part: str) -> str:
        return f"{self.family.blocks}.{layer}.{part}"

    def input(self, layer: int, part: str) -> Tensor:
        return self.into[self.name(layer, part)]

    def output(self, layer: int, part: str) -> Tensor:
        return self.out[self.name(layer, part)]

    def through(self, layer: int, part: str, x: Tensor) -> Tensor:
        """``x`` through an output projection, written out."""
        module: Any = self.modules[self.name(layer, part)]
        product: Tensor = x @ (module.weight if isinstance(module, Conv1D) else module.weight.T)
        return product if module.bias is None else product + module.bias

    def scaled(self, layer: int, x: Tensor) -> Tensor:
        """``x`` with the gain, and the shift, of the norm before the MLP."""
        module: Any = self.modules[self.name(layer, self.family.norm)]
        gain: Tensor = 1 + module.weight if self.family.name.startswith("Gemma") else module.weight
        return x * gain + getattr(module, "bias", torch.zeros(D_MODEL))

    def behind(self, layer: int) -> Tensor:
        """The residual stream behind block ``layer``."""
        return self.stream[layer + 1] if layer + 1 < N_LAYERS else self.out[f"{self.family.blocks}.{layer}"]


def check(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-5)
    assert want.std() > 1e-3


def absent(family: Family, layer: int) -> set[str]:
    """What a block has not, by hand."""
    return (
        ({"resid_mid"} if family.parallel else set())
        | ({"embeddings"} if layer else set())
        | ({"mlp_act"} if family.router and layer not in family.dense else set())
    )


def check_word(seen: Seen, hook: str, layer: int, got: Tensor) -> None:
    family, before, behind = seen.family, seen.stream[layer], seen.behind(layer)
    attention, mlp = seen.output(layer, family.attention), seen.output(layer, family.mlp)
    mlp_out = seen.output(layer, family.post_mlp or family.mlp)
    normed = seen.output(layer, family.norm)
    mid = before + attention if family.parallel else seen.input(layer, family.norm)
    want = {
        "embeddings": seen.out[family.embed],
        "resid_pre": before,
        "resid_mid": behind - mlp_out,
        "resid_post": behind,
        "attn_out": behind - before - mlp_out,
        "mlp_in": normed,
        "mlp_out": behind - mid,
    }
    if hook in want:
        check(got, want[hook])
    elif hook == "z":
        check(seen.through(layer, family.mix, got), attention)
    elif hook == "mlp_act":
        check(seen.through(layer, family.down, got), mlp)
    else:
        assert hook == "mlp_in_normalized"
        check(seen.scaled(layer, got), normed)


def test_every_word_is_what_the_modules_carry(pair: tuple[Family, LoadedModel], contexts: list[Context]) -> None:
    family, model = pair
    seen = [Seen(family, model, context) for context in contexts]
    for layer in range(N_LAYERS):
        for hook in set(HOOKS) - absent(family, layer):
            capture = Capture(model, hook, layer)
            batch = capture.run(contexts)
            assert (capture.hook, batch.x.shape[-1]) == (hook, capture.point.width)
            for i, length in enumerate(LENGTHS):
                check_word(seen[i], hook, layer, batch.x[i, :length])


def test_what_is_not_there_is_refused_in_one_sentence(pair: tuple[Family, LoadedModel]) -> None:
    family, model = pair
    for layer in range(N_LAYERS):
        for hook in absent(family, layer):
            with pytest.raises(SettingsError) as refused:
                resolve(model, hook, layer)
            text = str(refused.value)
            assert text.startswith(f"The hook point {hook} of layer {layer} is not in {model.name}, ")
            there = text.partition("that layer has ")[2].rstrip(".").split(", ")
            assert set(there) == set(HOOKS) - absent(family, layer)
            assert len(text) < 300


def test_the_model_lists_its_points_and_its_routers(pair: tuple[Family, LoadedModel]) -> None:
    family, model = pair
    found = hook_points(model)
    rows = {row["hook"]: row for row in found if "hook" in row}
    assert list(rows) == [hook for hook in HOOKS if hook in rows]
    heads = 4 * family.config.get("head_dim", D_MODEL // 4)
    for hook, row in rows.items():
        layers = [layer for layer in range(N_LAYERS) if hook not in absent(family, layer)]
        assert row["layers"] == [layers[0], layers[-1]]
        assert row["width"] == {"z": heads, "mlp_act": 24}.get(hook, D_MODEL)
    routers = [row["router"] for row in found if "router" in row]
    sparse = {(): [0, 2], (0,): [1, 2], (1,): [0, 2, 2]}[family.dense]  # two numbers are a run, three are layers
    assert routers == ([{"layers": sparse, "n_experts": N_EXPERTS, "per_token": PER_TOKEN}] if family.router else [])


def test_the_experts_are_those_that_the_router_chose(pair: tuple[Family, LoadedModel], contexts: list[Context]) -> None:
    family, model = pair
    seen = [Seen(family, model, context) for context in contexts]
    sparse = [layer for layer in range(N_LAYERS) if family.router and layer not in family.dense]
    for layer in range(N_LAYERS):
        for hook in ("resid_pre", "attn_out", "mlp_in", "mlp_out", "resid_post"):
            own = layer in sparse and hook in ("mlp_out", "resid_post")
            router = max((s for s in sparse if s < layer or (own and s == layer)), default=None)
            capture = Capture(model, hook, layer, experts=True)
            batch = capture.run(contexts)
            assert capture.router_layer == router
            if router is None:
                assert (batch.experts, capture.n_experts, capture.per_token) == (None, 0, 0)
                continue
            assert batch.experts is not None
            assert batch.experts.shape == (2, max(LENGTHS), PER_TOKEN)
            assert batch.experts.dtype == torch.int64
            for i, length in enumerate(LENGTHS):
                logits = seen[i].output(router, family.router or "")
                want = logits.topk(PER_TOKEN).indices
                assert torch.equal(batch.experts[i, :length].sort().values, want.sort().values)


def test_a_path_that_names_a_word_becomes_it(pair: tuple[Family, LoadedModel]) -> None:
    family, model = pair
    names = {
        f"{family.mlp}.input": "mlp_in",
        f"{family.mix}.input": "z",
        f"{family.post_mlp or family.mlp}.output": "mlp_out",
        f"{family.post_attention or family.attention}.output": "attn_out",
    }
    names |= {} if family.parallel else {f"{family.norm}.input": "resid_mid"}
    names |= {f"{family.down}.input": "mlp_act"} if 1 in family.dense or not family.router else {}
    for path, word in names.items():
        assert resolve(model, path, 1) == resolve(model, word, 1), path
    for path in {f"{family.mlp}.output", f"{family.norm}.output"} - names.keys():
        assert resolve(model, path, 1).hook == path
