"""What the address of the feature table, and the page of keys, may ask for."""

from typing import Any

from django import forms

from features.filters import LABELS, MAX_QUERY, STATES, ListingError, parse_ids
from features.listing import ORDERS, FeatureListing

MAX_LIST = 8000
"""Characters of a list of numbers: what fits into an address."""
SHARES = ("density_min", "density_max")
RARE = ("maximum_min", "maximum_max", "label", "starred", "tag", "collection", "ids")
"""Filters that stand behind a fold of the form."""
KEPT = ("run", "q", "state", *SHARES, *RARE)
"""What the links of a table carry on, beside its order."""


class FeatureFilter(forms.Form):
    """Densities are percentages here. What is wrong is left out and said; the rest still holds."""

    q = forms.CharField(required=False, max_length=MAX_QUERY, label="Search")
    state = forms.ChoiceField(required=False, choices=[(state, state) for state in STATES], label="Features")
    density_min = forms.FloatField(required=False, min_value=0, max_value=100, label="Density from")
    density_max = forms.FloatField(required=False, min_value=0, max_value=100, label="Density to")
    maximum_min = forms.FloatField(required=False, min_value=0, label="Maximum from")
    maximum_max = forms.FloatField(required=False, min_value=0, label="Maximum to")
    label = forms.ChoiceField(required=False, choices=[(kind, kind) for kind in LABELS], label="Label")
    starred = forms.BooleanField(required=False, label="Starred")
    tag = forms.CharField(required=False, max_length=40, label="Tag")
    collection = forms.CharField(required=False, max_length=120, label="Collection")
    ids = forms.CharField(required=False, max_length=MAX_LIST, label="Numbers")
    order = forms.ChoiceField(required=False, choices=[(order, order) for order in ORDERS])

    def clean_ids(self) -> tuple[int, ...] | None:
        try:
            return parse_ids(self.cleaned_data["ids"])
        except ListingError as error:
            raise forms.ValidationError(f"{str(error).removeprefix('ids ').capitalize()}") from error

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        for name, unit in (("density", " %"), ("maximum", "")):
            low, high = data.get(f"{name}_min"), data.get(f"{name}_max")
            if low is not None and high is not None and low > high:
                self.add_error(f"{name}_max", f"Must not be below {low:g}{unit}, the least {name} asked for.")
        return self.cleaned_data

    def listing(self) -> FeatureListing:
        """What the valid fields ask for; call after ``is_valid()``."""
        plain = ("order", "state", "q", "label", "starred", "tag", "collection", "ids")
        given = {name: self.cleaned_data[name] for name in plain if self.cleaned_data.get(name)}
        low, high = (self._share(name) for name in SHARES)
        least, most = (self.cleaned_data.get(name) for name in ("maximum_min", "maximum_max"))
        return FeatureListing(min_density=low, max_density=high, min_maximum=least, max_maximum=most, **given)

    @property
    def n_rare(self) -> int:
        """How many of the folded filters are in use, or wrong."""
        return sum(bool(self.data.get(name)) for name in RARE)

    def _share(self, name: str) -> float | None:
        value = self.cleaned_data.get(name)
        return None if value is None else value / 100


class KeyForm(forms.Form):
    name = forms.CharField(max_length=80, label="What is it for?")
