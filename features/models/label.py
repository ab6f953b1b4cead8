"""Labels of a feature: all that were ever given, which one is shown, and what people think of them."""

from django.conf import settings
from django.db import models

from features.models.feature import Feature
from features.models.sae import SAE


class Label(models.Model):
    """A few words for a feature, and if there is more to say, an explanation.

    It says who or what wrote it: a rule says how precise it is, a model its name and method. Its words are never
    changed, nor is it deleted; one that an import withdraws stays, and may be shown again.
    """

    class Source(models.TextChoices):
        RULE = "rule", "rule"
        PERSON = "person", "person"
        MODEL = "model", "model"

    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="labels")
    text = models.CharField(max_length=500)
    explanation = models.TextField(blank=True, db_default="")
    source = models.CharField(max_length=10, choices=Source)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    author_name = models.CharField(max_length=200, blank=True, db_default="", help_text="of somebody at another site")
    run = models.ForeignKey("Run", null=True, on_delete=models.CASCADE, related_name="labels")
    rule = models.CharField(max_length=20, blank=True)
    precision = models.FloatField(null=True, help_text="share of held-out examples on which the rule holds")
    n_held_out = models.PositiveIntegerField(null=True)
    method = models.CharField(max_length=100, blank=True, db_default="", help_text="how a model was asked")
    explainer = models.CharField(max_length=200, blank=True, db_default="", help_text="the model that wrote it")
    outside_id = models.CharField(max_length=100, blank=True, db_default="", help_text="its id where it came from")
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True, help_text="when an import found it replaced where it came from")

    class Meta:
        indexes = [
            models.Index("text", name="label_by_text"),
            models.Index(fields=["author"], name="label_by_author", condition=models.Q(author__isnull=False)),
        ]
        constraints = [
            models.CheckConstraint(
                name="a_rule_says_which_and_how_precise",
                condition=~models.Q(source="rule")
                | (models.Q(precision__isnull=False, n_held_out__isnull=False) & ~models.Q(rule="")),
            )
        ]

    def __str__(self) -> str:
        return self.text


class LabelChange(models.Model):
    """The shown label of a feature went from ``before`` to ``after``: the history, from which each step can be undone.

    Keys ascend within an SAE in the order of the changes: who writes one locks the SAE's row first. ``batch`` is the
    same for all changes that one command made.
    """

    sae = models.ForeignKey(SAE, on_delete=models.CASCADE, related_name="label_changes")
    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="label_changes")
    index = models.PositiveIntegerField(help_text="the feature's")
    before = models.ForeignKey(Label, null=True, on_delete=models.SET_NULL, related_name="+")
    after = models.ForeignKey(Label, null=True, on_delete=models.SET_NULL, related_name="+")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    batch = models.UUIDField()
    undoes = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="undone_by")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index("sae", "id", name="label_change_by_sae"), models.Index("batch", name="change_batch")]

    def __str__(self) -> str:
        return f"{self.sae_id}/{self.index}: {self.before_id} to {self.after_id}"


class Vote(models.Model):
    """One person's yes or no to a label."""

    label = models.ForeignKey(Label, on_delete=models.CASCADE, related_name="votes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    value = models.SmallIntegerField(choices=[(1, "yes"), (-1, "no")])

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["label", "user"], name="one_vote_each"),
            models.CheckConstraint(condition=models.Q(value__in=[1, -1]), name="a_vote_is_yes_or_no"),
        ]

    def __str__(self) -> str:
        return f"{self.value:+d} of {self.user_id}"
