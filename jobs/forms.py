"""The form that asks for an extraction: everything that can be known before a worker looks is said here."""

from typing import Any, cast

from django import forms
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser

from features.roles import is_administrator
from jobs import catalogue
from jobs.catalogue import Choices, NotUsable, clip
from jobs.engine import hub
from jobs.requests import MAX_PLACE, ExtractionRequest

PLACES = ("model", "sae", "corpus")
ONLY_ADMINISTRATORS = "only an administrator may give a path on the server; choose one from the list, or ask one."


def _whole(name: str, low: int, high: int | None, **options: Any) -> forms.IntegerField:
    """A whole number whose every fault is said in a sentence that begins with the field's name."""
    limits = f"from {low:,} to {high:,}" if high is not None else f"of at least {low:,}"
    fault = f"{name}: give a whole number {limits}."
    errors = dict.fromkeys(("invalid", "min_value", "max_value", "required"), fault)
    return forms.IntegerField(label=name, min_value=low, max_value=high, error_messages=errors, **options)


def _path(name: str) -> forms.CharField:
    too_long = {"max_length": f"{name}: give a path of at most %(limit_value)d characters."}
    return forms.CharField(label=name, required=False, max_length=500, error_messages=too_long)


HOOK = r"^[A-Za-z][\w.]*\Z"


class SAEForm(forms.Form):
    """What a person may say of an SAE that its files do not."""

    layer = _whole("Layer", 0, 9999, required=False, help_text="From 0. Empty: as the SAE's files say.")
    hook = forms.RegexField(
        HOOK,
        label="Hook",
        strip=True,
        required=False,
        max_length=120,
        help_text="For instance resid_post. Empty: as the SAE's files say.",
        error_messages={"invalid": "Hook: give a name such as resid_post or blocks.9.hook_resid_post."},
    )
    k = _whole("k", 1, 1_000_000, required=False, help_text="Of a TopK SAE whose files do not say it.")


class OverridesForm(SAEForm):
    """The same for an SAE that is added: kept with it."""

    hook_out = forms.RegexField(
        HOOK,
        label="Hook out",
        strip=True,
        required=False,
        max_length=120,
        help_text="What a transcoder writes, for instance mlp_out, if its files do not say.",
        error_messages={"invalid": "Hook out: give a name such as mlp_out."},
    )
    centred = forms.TypedChoiceField(
        label="Centred",
        choices=[("", "as the files say"), ("true", "yes"), ("false", "no")],
        coerce=lambda text: text == "true",
        empty_value=None,
        required=False,
        help_text="The mean of each activation is taken off first: for models with centred writing weights.",
    )


class PlaceForm(OverridesForm):
    """An SAE by its place: a repository of a hub or, for administrators, a full path."""

    place = forms.CharField(
        label="Repository or path",
        max_length=MAX_PLACE,
        error_messages={
            "required": "Place: give a repository such as google/gemma-scope-2b-pt-res, or a path.",
            "max_length": "Place: give at most %(limit_value)d characters.",
        },
    )

    def __init__(self, *args: Any, may_give_paths: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.may_give_paths = may_give_paths

    def clean_place(self) -> str:
        place: str = self.cleaned_data["place"]
        if place.startswith("/") and not self.may_give_paths:
            raise forms.ValidationError("Place: only an administrator may give a path; upload the files instead.")
        if not place.startswith("/") and hub.parse(place) is None:
            raise forms.ValidationError(
                f"Place: {clip(place)} is neither a full path nor owner/name, which a folder may follow."
            )
        try:
            catalogue.sae_facts(place)
        except NotUsable as error:
            raise forms.ValidationError(str(error)) from error
        return place


class ExtractionForm(SAEForm):
    """``model``, ``sae`` and ``corpus`` are chosen from what is known here; administrators may type a path instead.

    Paths are read by the workers, so whoever could name any path could read any file of the server.
    """

    model = forms.ChoiceField(label="Model", required=False)
    model_path = _path("Model path")
    sae = forms.ChoiceField(label="SAE", required=False)
    sae_path = _path("SAE path")
    corpus = forms.ChoiceField(label="Corpus", required=False)
    corpus_path = _path("Corpus path")

    tokens = _whole("Tokens", 1, 10**12, required=False, help_text="Read about so many. Empty: the whole corpus.")
    context = _whole("Context", 2, 8192, initial=128, help_text="Tokens per window.")
    top = _whole("Top", 1, 200, initial=24, help_text="Strongest examples kept per feature.")
    seed = _whole("Seed", 0, 2**31 - 1, initial=0, help_text="The same seed gives the same run.")

    skip_first = _whole(
        "Skip first",
        0,
        64,
        required=False,
        help_text="Positions at the start of each window to leave out, where the model parks its attention.",
    )
    device = forms.RegexField(
        r"^(auto|cpu|mps|cuda(:\d{1,2})?)\Z",
        label="Device",
        strip=True,
        initial="auto",
        help_text="auto, cpu, cuda or cuda:1.",
        error_messages={
            "invalid": "Device: give auto, cpu, mps, cuda or cuda:1.",
            "required": "Device: give auto, cpu, mps, cuda or cuda:1.",
        },
    )

    def __init__(self, *args: Any, user: AbstractBaseUser | AnonymousUser, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.may_give_paths = is_administrator(user)
        self.choices = {
            "model": catalogue.model_choices(),
            "sae": catalogue.sae_choices(),
            "corpus": catalogue.corpus_choices(),
        }
        for name, groups in self.choices.items():
            self._offer(name, groups)
            if not self.may_give_paths:
                del self.fields[f"{name}_path"]

    def _offer(self, name: str, groups: Choices) -> None:
        field = cast(forms.ChoiceField, self.fields[name])
        items = [item for _, group in groups for item in group]
        field.choices = [("", "choose…"), *groups]
        field.error_messages["invalid_choice"] = (
            f"{field.label}: %(value)s is not installed here; choose one from the list."
        )
        if len(items) == 1:
            field.initial = items[0][0]

    @property
    def nothing_installed(self) -> list[str]:
        return [str(self.fields[name].label) for name, groups in self.choices.items() if not groups]

    @property
    def path_fields(self) -> list[forms.BoundField]:
        return [self[f"{name}_path"] for name in PLACES if self.may_give_paths]

    @property
    def advanced_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ("skip_first", "layer", "hook", "k", "device")]

    @property
    def paths_used(self) -> bool:
        return any(field.value() or field.errors for field in self.path_fields)

    @property
    def advanced_used(self) -> bool:
        return any(field.errors or field.value() not in (None, "", "auto") for field in self.advanced_fields)

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        for name in PLACES:
            self._settle(name)
        model = self._facts("model", catalogue.model_facts)
        sae = self._facts("sae", catalogue.sae_facts)
        self._facts("corpus", catalogue.corpus_bytes)
        if model is not None and sae is not None:
            self._check_fit(model, sae)
        return data

    def _settle(self, name: str) -> None:
        """A path that an administrator typed wins over the choice; from anybody else it is refused, not passed over."""
        label = self.fields[name].label
        path = self.cleaned_data.get(f"{name}_path")
        if not self.may_give_paths and self.data.get(f"{name}_path"):
            self.add_error(name, f"{label}: {ONLY_ADMINISTRATORS}")
        elif path:
            self.cleaned_data[name] = path
            self.errors.pop(name, None)
        elif name in self.cleaned_data and not self.cleaned_data[name]:
            self.add_error(name, f"{label}: choose one.")

    def _facts(self, name: str, look: Any) -> Any:
        """What is known of the place, None where nothing is; a fault is shown at the field it was typed in."""
        if not self.cleaned_data.get(name):
            return None
        try:
            return look(self.cleaned_data[name])
        except NotUsable as error:
            self.add_error(f"{name}_path" if self.cleaned_data.get(f"{name}_path") else name, str(error))
            self.cleaned_data.pop(name, None)
            return None

    def _check_fit(self, model: catalogue.ModelFacts, sae: catalogue.SAEFacts) -> None:
        named_layer, named_hook = catalogue.parse_hook(self.cleaned_data.get("hook") or None)
        hook = catalogue.SAEFacts(hook=named_hook or sae.hook)
        layers = (self.cleaned_data.get("layer"), named_layer, sae.layer)
        layer = next((layer for layer in layers if layer is not None), None)
        if hook.has_residual_width and model.d_model and sae.d_in and model.d_model != sae.d_in:
            self.add_error(
                "sae",
                f"SAE: it reads vectors of {sae.d_in} numbers (d_in), but the model's are {model.d_model} wide; "
                "choose the SAE's own model.",
            )
        if layer is not None and model.n_layers and layer >= model.n_layers:
            self.add_error(
                "layer",
                f"Layer: there is no layer {layer} in this model, which has {model.n_layers} "
                f"(0 to {model.n_layers - 1}).",
            )

    def memory(self) -> int | None:
        """From model and SAE alone, as ``estimate`` is from the rest."""
        self.full_clean()
        model, sae = (self.cleaned_data.get(name) for name in ("model", "sae"))
        return catalogue.memory(catalogue.model_facts(model), catalogue.sae_facts(sae)) if model and sae else None

    def estimate(self) -> catalogue.Estimate | None:
        """From the tokens and the corpus alone, whatever else is still wrong or missing."""
        self.full_clean()
        corpus = self.cleaned_data.get("corpus")
        n_bytes = catalogue.corpus_bytes(corpus) if corpus else None
        return catalogue.estimate(self.cleaned_data.get("tokens"), n_bytes)

    def request(self) -> ExtractionRequest:
        """What was asked for. Only of a valid form."""
        data = self.cleaned_data
        return ExtractionRequest(
            model=data["model"],
            sae=data["sae"],
            corpus=data["corpus"],
            tokens=data["tokens"],
            context=data["context"],
            top=data["top"],
            seed=data["seed"],
            skip_first=data["skip_first"] or 0,
            layer=data["layer"],
            hook=data["hook"] or None,
            k=data["k"],
            device=data["device"],
        )
