"""What the address of the feature table, and the page of keys, may ask for."""

from typing import Any

from django import forms

from features.listing import MAX_QUERY, ORDERS, STATES, FeatureListing


class FeatureFilter(forms.Form):
    """Densities are percentages here. What is wrong is left out and said; the rest still holds."""

    q = forms.CharField(required=False, max_length=MAX_QUERY, label="Search")
    state = forms.ChoiceField(required=False, choices=[(state, state) for state in STATES], label="Features")
    density_min = forms.FloatField(required=False, min_value=0, max_value=100, label="Density from")
    density_max = forms.FloatField(required=False, min_value=0, max_value=100, label="Density to")
    order = forms.ChoiceField(required=False, choices=[(order, order) for order in ORDERS])

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        low, high = data.get("density_min"), data.get("density_max")
        if low is not None and high is not None and low > high:
            self.add_error("density_max", f"Must not be below {low:g} %, the least density asked for.")
        return self.cleaned_data

    def listing(self) -> FeatureListing:
        """What the valid fields ask for; call after ``is_valid()``."""
        given = {name: self.cleaned_data[name] for name in ("order", "state", "q") if self.cleaned_data.get(name)}
        return FeatureListing(min_density=self._share("density_min"), max_density=self._share("density_max"), **given)

    def _share(self, name: str) -> float | None:
        value = self.cleaned_data.get(name)
        return None if value is None else value / 100


class KeyForm(forms.Form):
    name = forms.CharField(max_length=80, label="What is it for?")
