"""Where a search looks: the SAEs with their newest runs, and which of them were chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import OuterRef, Subquery

from features.evidence import NotFound
from features.models import SAE, LanguageModel, Run


@dataclass(frozen=True)
class Place:
    """An SAE, with its model, and the key of its newest run."""

    sae: SAE
    run: int | None


@dataclass(frozen=True)
class Scope:
    """``every`` SAE there is, and the ``chosen`` ones: all, those of ``model``, or ``sae`` alone."""

    every: Sequence[Place]
    chosen: Sequence[Place]
    model: LanguageModel | None = None
    sae: SAE | None = None

    @property
    def saes(self) -> list[int] | None:
        """Keys of the chosen SAEs; None for all."""
        return None if self.model is None and self.sae is None else [place.sae.pk for place in self.chosen]

    @property
    def runs(self) -> dict[int, LanguageModel]:
        """Keys of the chosen SAEs' newest runs, with the models that were read."""
        return {place.run: place.sae.model for place in self.chosen if place.run is not None}

    @property
    def models(self) -> list[LanguageModel]:
        return list(dict.fromkeys(place.sae.model for place in self.every))


def find_scope(sae: str = "", model: str = "") -> Scope:
    """The scope of an SAE's slug, or a model's; NotFound for one that is not there. One query."""
    newest = Run.objects.filter(sae=OuterRef("pk")).order_by("-created_at", "-pk").values("pk")[:1]
    listed = SAE.objects.for_listing().defer("card", "training", "model__hook_points")
    every = [Place(found, found.newest) for found in listed.annotate(newest=Subquery(newest))]  # type: ignore[attr-defined]
    if sae:
        chosen = [place for place in every if place.sae.slug == sae]
        if not chosen:
            raise NotFound("There is no SAE of this name here.")
        return Scope(every, chosen, sae=chosen[0].sae)
    if model:
        chosen = [place for place in every if place.sae.model.slug == model]
        if not chosen:
            raise NotFound("There is no model of this name here, or it has no SAE.")
        return Scope(every, chosen, model=chosen[0].sae.model)
    return Scope(every, every)
