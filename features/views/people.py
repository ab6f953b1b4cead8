"""What people say about a feature: labels, votes, stars, tags, comments. Every action is a POST."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from features.evidence import NotFound, find_feature, find_sae
from features.knowledge import collecting, labelling, naming, notes, rules
from features.knowledge.rules import Refused
from features.knowledge.undoing import Outcome, features, token, undo, undo_labels
from features.models import Comment, Feature, Label, Tag, Tagging
from features.views.answers import (
    back,
    feature_context,
    here,
    on_feature,
    on_rows,
    refused_on_feature,
    wants_part,
)

Action = Callable[[Feature], Outcome]


@require_safe
@vary_on_headers("HX-Request")
def people(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    """All labels of a feature with their votes and their history, and the comments: seven queries."""
    ctx = feature_context(request, _find(slug, index))
    return render(request, "features/people/_people.html" if wants_part(request) else "features/people/page.html", ctx)


@require_POST
def label(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    """Give a label; without JavaScript and with it, the form comes back filled in if it is refused."""

    def give(feature: Feature) -> Outcome:
        text, about = request.POST.get("text", ""), request.POST.get("explanation", "")
        batch = labelling.give([feature], text, request.user, explanation=about)
        if not labelling.changes_of(batch):
            return Outcome("Nothing to change: it shows this label of yours already.")
        return Outcome("Labelled.", token(request.user, "labels", str(batch)))

    return _act(request, slug, index, "label", give)


@require_POST
def withdraw(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    def none(feature: Feature) -> Outcome:
        batch = labelling.withdraw(feature, request.user)
        return Outcome("It shows no label now.", token(request.user, "labels", str(batch)))

    return _act(request, slug, index, "label", none)


@require_POST
def show_label(request: HttpRequest, slug: str, index: int, pk: int) -> HttpResponse:
    def show(feature: Feature) -> Outcome:
        batch = labelling.show(_label(feature, pk), request.user)
        if not labelling.changes_of(batch):
            return Outcome("It shows this label already.")
        return Outcome("It shows this label now.", token(request.user, "labels", str(batch)))

    return _act(request, slug, index, "label", show)


@require_POST
def vote(request: HttpRequest, slug: str, index: int, pk: int) -> HttpResponse:
    def say(feature: Feature) -> Outcome:
        value = request.POST.get("value", "")
        if value not in {"1", "0", "-1"}:
            raise Refused("A vote is 1 for yes, -1 for no, or 0 for none.")
        labelling.vote(_label(feature, pk), request.user, int(value))
        return Outcome({"1": "You said yes.", "-1": "You said no.", "0": "Your vote is taken back."}[value])

    return _act(request, slug, index, "vote", say)


@require_POST
def star(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    """``on`` is 1 or 0: sent twice, it is done once."""

    def mark(feature: Feature) -> Outcome:
        if request.POST.get("on") == "0":
            gone = notes.unstar([feature.pk], request.user)
            return Outcome("The star is off.", token(request.user, "star", gone) if gone else "")
        new = notes.star([feature.pk], request.user)
        return Outcome("Starred: only you see it.", token(request.user, "unstar", new) if new else "")

    return _act(request, slug, index, "star", mark)


@require_POST
def tag(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    """Puts on the tags in ``tag``, or takes off the one in ``off``."""

    def change(feature: Feature) -> Outcome:
        if off := request.POST.get("off"):
            name = rules.tag_name(off)
            gone = notes.untag([feature.pk], name)
            return Outcome(f"“{name}” is off.", token(request.user, "tag", {name: gone}) if gone else "")
        new = notes.tag([feature.pk], rules.tag_names(request.POST.get("tag", "")), request.user)
        put = [name for name, keys in new.items() if keys]
        if not put:
            return Outcome("Nothing to change: it bears this tag already.")
        return Outcome(f"Tagged {', '.join(put)}.", token(request.user, "untag", new))

    return _act(request, slug, index, "tag", change)


@require_POST
def comment(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    def say(feature: Feature) -> Outcome:
        notes.comment(feature, request.POST.get("text", ""), request.user)
        return Outcome("Your comment stands there.")

    return _act(request, slug, index, "comment", say)


@require_POST
def delete_comment(request: HttpRequest, slug: str, index: int, pk: int) -> HttpResponse:
    def erase(feature: Feature) -> Outcome:
        row = Comment.objects.filter(feature=feature, pk=pk).first()
        if row is None:
            raise NotFound("This feature has no such comment.")
        text = notes.delete_comment(row, request.user)
        return Outcome("The comment is deleted.", token(request.user, "comment", pk, text) if text else "")

    return _act(request, slug, index, "comment", erase)


@require_POST
def collect(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    """Put a feature into the collection that ``collection`` names, a new one if there is none of this name."""

    def put(feature: Feature) -> Outcome:
        return collected([feature], request.POST.get("collection", ""), request.user)

    return _act(request, slug, index, "collect", put)


def collected(rows: list[Feature], name: str, user: Any) -> Outcome:
    """Put features into a collection, and say so."""
    collection, made = collecting.find_or_create(name, user)
    new = collecting.add(collection, [row.pk for row in rows], user)
    if not new:
        return Outcome(f"Nothing to change: “{collection}” holds {'it' if len(rows) == 1 else 'all of them'} already.")
    into = f"the new collection “{collection}”, which only you see" if made else f"“{collection}”"
    return Outcome(f"Put {features(len(new))} into {into}.", token(user, "take out", collection.pk, new))


@require_POST
def undo_batch(request: HttpRequest, slug: str, index: int, batch: UUID) -> HttpResponse:
    """Undo a change of labels from the history of one of its features, whoever made it."""
    return _act(request, slug, index, "label", lambda feature: undo_labels(request.user, str(batch)))


@require_POST
def undo_view(request: HttpRequest) -> HttpResponse:
    """Undo what a button carries; ``feature`` says that it stands on that feature's page."""
    address = here(request, "/")
    try:
        outcome = undo(request.POST.get("what", ""), request.user)
    except Refused as error:
        if not wants_part(request):
            return back(request, Outcome(str(error)), address)
        return render(request, "features/people/_toast.html", {"bad": str(error)}, status=422)
    if wants_part(request) and (place := request.POST.get("feature", "")):
        ((slug, index),) = naming.names_in(place)
        return on_feature(request, _find(slug, index), outcome)
    answer = on_rows(request, outcome, address, relabelled(outcome.features))
    answer["HX-Trigger"] = "people-changed"  # rows may have come back or gone
    return answer


def relabelled(keys: list[int]) -> list[Feature]:
    """Features with SAE and label, for the cells of a table: one query."""
    rows = Feature.objects.filter(pk__in=keys).order_by("pk").select_related("sae", "label__author")
    return list(rows.defer("logits", "neighbours"))


@require_safe
def tag_options(request: HttpRequest) -> HttpResponse:
    """Tags in use, for the list under a field."""
    used = Tag.objects.filter(Exists(Tagging.objects.filter(tag=OuterRef("pk"))))
    names = used.values_list("name", flat=True)
    return render(request, "features/people/_options.html", {"options": [(name, "") for name in names[:500]]})


def _act(request: HttpRequest, slug: str, index: int, form: str, action: Action) -> HttpResponse:
    """Do something to a feature and show what it is now, or why not."""
    feature = _find(slug, index)
    try:
        outcome = action(feature)
    except Refused as error:
        return refused_on_feature(request, feature, form, error)
    if wants_part(request):
        feature = _find(slug, index)  # with the label that it shows by now
    return on_feature(request, feature, outcome)


def _find(slug: str, index: int) -> Feature:
    """A feature with its SAE and label: two queries."""
    sae = find_sae(slug)
    feature = find_feature(sae, index)
    feature.sae = sae
    return feature


def _label(feature: Feature, pk: int) -> Label:
    found = Label.objects.filter(feature=feature, pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound("This feature has no such label.")
    return found
