"""Collection: features that somebody put together, of any SAEs."""

from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from features.models.feature import Feature
from features.roles import is_administrator


class CollectionQuerySet(models.QuerySet["Collection"]):
    def visible_to(self, user: Any) -> Self:
        """One's own, and those that are shared; to administrators also those whose owner left."""
        seen = Q(shared=True) | Q(owner=user)
        return self.filter(seen | Q(owner=None) if is_administrator(user) else seen)


class Collection(models.Model):
    """Its owner and administrators change it. ``shared``: everybody signed in may look at it and add to it."""

    slug = models.SlugField(max_length=120, unique=True)
    name = models.CharField(max_length=120)
    description = models.TextField(max_length=4000, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="collections"
    )
    shared = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    objects = CollectionQuerySet.as_manager()

    class Meta:
        ordering = ["-changed_at", "-pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("collection", args=[self.slug])


class CollectionItem(models.Model):
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="items")
    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="collected")
    position = models.PositiveIntegerField()
    note = models.CharField(max_length=500, blank=True)
    added_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["position", "pk"]
        constraints = [models.UniqueConstraint(fields=["collection", "feature"], name="a_feature_once_a_collection")]

    def __str__(self) -> str:
        return f"{self.collection_id}: {self.feature_id}"
