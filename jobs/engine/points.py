"""Hook points of a model: which module carries a hook's activations, how wide they are, how they are read."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch
from interp_engine.capture import pre_gain_normalized
from torch import Tensor, nn

from jobs.engine import experts
from jobs.engine.errors import SettingsError
from jobs.engine.hook_names import HOOKS
from jobs.engine.model import LoadedModel

Place = tuple[nn.Module, str]  # a module and "input", "output" or "output:i", the i-th of several outputs
PROBE = (2, 3)  # contexts and tokens of the pass that tells what a place carries
# What a sublayer adds to the residual stream: interp-engine's names for HOOKS that it calls something else.
_ENGINE = {"attn_out": "attn_out_post", "mlp_out": "mlp_out_post"}


class _Absent(Exception):
    """The point does not exist; says why, in a few words that follow a comma."""


class _Reached(Exception):
    """Raised inside the forward pass once the activations are in hand: later layers need not run."""


@dataclass(frozen=True)
class Point:
    """``hook``: one of HOOKS, or a module's path and side. ``width``: of its vectors, one for each token.

    ``scale``: what a few models (Granite) multiply the module's output by when they add it to the residual stream.
    ``norm``: where it is not None, the activations are what that norm makes of them before its gain, and ``centres``
    says whether the norm takes off the mean.
    """

    hook: str
    layer: int
    module: nn.Module
    side: str
    width: int = 0
    scale: float = 1.0
    norm: nn.Module | None = None
    centres: bool = False

    @property
    def place(self) -> Place:
        return self.module, self.side

    def read(self, found: Tensor, shape: Sequence[int]) -> Tensor:
        """Activations float32 [*shape, width], from what ``recording`` found. Raises SettingsError."""
        if not _is_per_token(found, shape) or found.shape[-1] != self.width:
            raise SettingsError(f"{self} gives {list(found.shape)}: it carries no activations.")
        x = found.reshape(*shape, self.width).float()
        if self.scale != 1:
            x = x * self.scale
        return x if self.norm is None else _normalised(x, self.norm, self.centres)

    def __str__(self) -> str:
        return f"The hook point {self.hook[:80]} of layer {self.layer}"


def resolve(model: LoadedModel, hook: str, layer: int) -> Point:
    """The point that ``hook``, one of HOOKS or a module's path with its side, names in block ``layer``.

    A path that names the module and the side of one of HOOKS becomes that word. Its width is measured, by a pass over
    a few tokens that ends there. Raises SettingsError, a sentence that says what exists, where the point does not.
    """
    if not 0 <= layer < model.n_layers:
        raise SettingsError(
            f"Layer {layer} does not exist in {model.name}: it has {model.n_layers} layers, 0 to {model.n_layers - 1}."
        )
    try:
        point = _find(model, hook, layer)
        (found,) = observe(model, [point.place])
        return _measured(point, found)
    except _Absent as absent:
        others = ", ".join(point.hook for point in _words(model, layer))
        raise SettingsError(
            f"The hook point {hook[:80]} of layer {layer} is not in {model.name}, {absent}; that layer has {others}."
        ) from absent


def points_of(model: LoadedModel) -> list[Point]:
    """Every point of HOOKS in every layer of ``model``, layer by layer. Costs one pass over a few tokens."""
    points = [point for layer in range(model.n_layers) for point in _words(model, layer)]
    measured = []
    for point, found in zip(points, observe(model, [point.place for point in points]), strict=True):
        with suppress(_Absent):
            measured.append(_measured(point, found))
    return measured


def hook_points(model: LoadedModel) -> list[dict[str, Any]]:
    """What can be read from ``model``: {"hook", "width", "layers"} of each of HOOKS that it has, in their order.

    A hook whose width differs by layer comes once for each width. After them, of a mixture of experts, {"router":
    {"layers", "n_experts", "per_token"}}. Of ``layers``, two numbers are the first and the last of an unbroken run;
    any other number of them are the layers themselves. Costs a pass over a few tokens, for the routers another.
    """
    rows: dict[tuple[str, int], list[int]] = {}
    for point in points_of(model):
        rows.setdefault((point.hook, point.width), []).append(point.layer)
    in_order = sorted(rows.items(), key=lambda row: list(HOOKS).index(row[0][0]))
    listed: list[dict[str, Any]] = [
        {"hook": hook, "width": width, "layers": _run_of(layers)} for (hook, width), layers in in_order
    ]
    routers = experts.routers(model)
    chosen = observe(model, list(routers.values())) if routers else []
    choices = {layer: t.shape[-1] for layer, t in zip(routers, chosen, strict=True) if is_choice(t)}
    if choices:
        facts = {"n_experts": experts.n_experts(model), "per_token": max(choices.values())}
        listed.append({"router": {"layers": _run_of(list(choices))} | facts})
    return listed


def is_choice(found: Tensor | None) -> TypeGuard[Tensor]:
    """Whether ``observe`` found the numbers of some experts for each token."""
    if found is None or found.is_floating_point() or found.dim() < 2:
        return False
    return found.numel() == math.prod(PROBE) * found.shape[-1]


@torch.inference_mode()
def observe(model: LoadedModel, places: Sequence[Place]) -> list[Tensor | None]:
    """What each place carries in a pass over PROBE tokens; None for one that is not reached."""
    with recording(places) as record:
        run(model, some_tokens(model))
    return [record.get(number) for number in range(len(places))]


def some_tokens(model: LoadedModel) -> Tensor:
    """int64 [*PROBE]."""
    return (torch.arange(math.prod(PROBE), device=model.device) % model.vocab_size).view(PROBE)


def run(model: LoadedModel, token_ids: Tensor) -> None:
    """A forward pass over [contexts, length]; within ``recording`` it ends as soon as that has everything."""
    # No attention mask: under causal attention no token sees the padding to its right.
    with suppress(_Reached):
        model.arch.trunk(input_ids=token_ids, use_cache=False)


@contextmanager
def recording(wanted: Sequence[Place], along: Sequence[Place] = ()) -> Iterator[dict[int, Tensor]]:
    """Collect what the first forward pass has at ``wanted``, and end it there; ``along``: if it comes by before.

    Keys are places in (*wanted, *along), in the order in which the pass comes to them.
    """
    record: dict[int, Tensor] = {}
    missing = set(range(len(wanted)))

    def keep(number: int, value: object) -> None:
        if number in record or not isinstance(value, Tensor):
            return
        missing.discard(number)
        # Later modules may write over what was kept, where they still run.
        record[number] = value.clone() if missing else value
        if not missing:
            raise _Reached

    places = [*enumerate(along, len(wanted)), *enumerate(wanted)]
    handles = [_hook(module, side, number, keep) for number, (module, side) in places]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _hook(module: nn.Module, side: str, number: int, keep: Any) -> Any:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keep(number, args[0] if args else kwargs.get("hidden_states"))

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        # Layers return a tensor or a tuple that starts with it, by architecture and transformers version.
        keep(number, output[int(side.partition(":")[2] or 0)] if isinstance(output, tuple) else output)

    if side == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def centres(norm: nn.Module, width: int, device: torch.device | str = "cpu") -> bool:
    """Whether ``norm`` takes the mean off a vector: then a vector and the same plus 3 come out the same."""
    probe = torch.ones(1, width, device=device)
    probe[:, 1::2] = -1
    in_float = copy.deepcopy(norm).float()
    there, shifted = in_float(probe), in_float(probe + 3)
    return bool((shifted - there).abs().max() < 0.1 * there.abs().max())


def epsilon(norm: nn.Module) -> float:
    return float(getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None) or 0.0)


def _normalised(x: Tensor, norm: nn.Module, centred: bool) -> Tensor:
    """``x`` as ``norm`` has it before its gain."""
    if centred:
        x = x - x.mean(-1, keepdim=True)
    normalised: Tensor = pre_gain_normalized(x, epsilon(norm))
    return normalised


def _find(model: LoadedModel, hook: str, layer: int) -> Point:
    """Without its width. Raises _Absent."""
    if hook in HOOKS:
        return _word(model, hook, layer)
    path, _, side = hook.rpartition(".")
    if not path or side not in ("input", "output"):
        raise _Absent("which knows no point of that name")
    try:
        place = model.arch.block(layer).get_submodule(path), side
    except AttributeError as error:
        raise _Absent("whose block has no such module there") from error
    same = (word for word in _words(model, layer) if word.place == place and word.norm is None and word.scale == 1)
    return next(same, Point(hook, layer, *place))


def _words(model: LoadedModel, layer: int) -> list[Point]:
    """The points of HOOKS that block ``layer`` has."""
    found = []
    for hook in HOOKS:
        with suppress(_Absent):
            found.append(_word(model, hook, layer))
    return found


def _word(model: LoadedModel, hook: str, layer: int) -> Point:
    if hook == "embeddings" and layer:
        raise _Absent("whose embeddings come before layer 0: give layer 0")
    if hook == "mlp_in_normalized":
        norm = model.arch.pre_mlp_norm(layer)
        if norm is None:
            raise _Absent("which has no norm of its own before its MLP")
        return Point(hook, layer, norm, "input", norm=norm)
    try:
        place = model.engine.resolve_point(_ENGINE.get(hook, hook), layer)
    except Exception as error:  # interp-engine raises many kinds, in words about itself
        raise _Absent(_why(model, hook, layer)) from error
    attention, mlp = model.arch.quirks.residual_multipliers
    scale = float({"attn_out": attention, "mlp_out": mlp}.get(hook, 1.0))
    return Point(hook, layer, place[0], place[1], scale=scale)


def _why(model: LoadedModel, hook: str, layer: int) -> str:
    if hook == "resid_mid" and model.arch.quirks.parallel_attn_mlp:
        return "whose attention and MLP read the same residual stream, side by side"
    if hook == "mlp_act" and model.arch.is_moe_layer(layer):
        return "where each expert has neurons of its own"
    return "which has no single module for it there"


def _measured(point: Point, found: Tensor | None) -> Point:
    """``point`` with the width of what ``observe`` found there. Raises _Absent."""
    if found is None:
        raise _Absent("which never runs that module")
    if not _is_per_token(found, PROBE):
        raise _Absent(f"where it carries no vector for each token but {list(found.shape)}")
    width = found.shape[-1]
    takes_mean_off = point.norm is not None and centres(point.norm, width, found.device)
    return replace(point, width=width, centres=takes_mean_off)


def _run_of(layers: list[int]) -> list[int]:
    if layers == list(range(layers[0], layers[-1] + 1)):
        return [layers[0], layers[-1]]
    return layers if len(layers) != 2 else [*layers, layers[-1]]  # two would read as a run


def _is_per_token(found: Tensor, shape: Sequence[int]) -> bool:
    """Inside a mixture of experts the tokens of all contexts come in one row."""
    return found.is_floating_point() and tuple(found.shape[:-1]) in (tuple(shape), (math.prod(shape),))
