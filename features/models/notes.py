"""What people keep beside a feature: stars, tags and comments."""

from django.conf import settings
from django.db import models

from features.models.feature import Feature


class Star(models.Model):
    """A person's own mark: nobody else sees it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="stars")
    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="stars")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "feature"], name="one_star_each")]

    def __str__(self) -> str:
        return f"star of {self.user_id}"


class Tag(models.Model):
    """A word that many features may bear, the same for everybody."""

    name = models.CharField(max_length=40, unique=True, help_text="lower case, words joined by hyphens")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Tagging(models.Model):
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE, related_name="taggings")
    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="taggings")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tag", "feature"], name="a_tag_once_a_feature")]

    def __str__(self) -> str:
        return f"{self.tag_id} on {self.feature_id}"


class Comment(models.Model):
    """Plain text. A deleted one leaves its place, without its text."""

    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="comments")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    text = models.TextField(max_length=4000)
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["created_at", "pk"]

    def __str__(self) -> str:
        return self.text[:60]
