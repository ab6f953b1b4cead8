"""Collections: the list of them, one of them, and its files."""

from collections.abc import Callable
from dataclasses import astuple

from django.contrib import messages
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from features.evidence import NotFound
from features.knowledge import collecting, exporting, naming, rules
from features.knowledge.collecting import find_collection
from features.knowledge.rules import Refused
from features.knowledge.shelf import page_of
from features.knowledge.undoing import Outcome, features, token
from features.models import Collection, CollectionItem
from features.views.answers import back, here, wants_part

SHOWN = 200
"""How many collections of each kind the list shows."""


@require_http_methods(["GET", "POST"])
def collections(request: HttpRequest) -> HttpResponse:
    """One's own and those that others share; a POST makes one. Four queries."""
    fault = ""
    if request.method == "POST":
        try:
            name, about = request.POST.get("name", ""), request.POST.get("description", "")
            made = collecting.create(request.user, name, about, shared=bool(request.POST.get("shared")))
        except Refused as error:
            fault = str(error)
        else:
            return redirect(made)
    visible = Collection.objects.visible_to(request.user).select_related("owner").annotate(n=Count("items"))
    ctx = {
        "own": visible.filter(owner_id=request.user.pk)[:SHOWN],
        "others": visible.exclude(owner_id=request.user.pk)[:SHOWN],
        "fault": fault,
        "typed": request.POST,
    }
    return render(request, "features/people/collections.html", ctx, status=422 if fault else 200)


@require_safe
@vary_on_headers("HX-Request")
def collection(request: HttpRequest, slug: str) -> HttpResponse:
    """A page of its features with their notes. htmx asks for the same address and gets the list alone."""
    return _page(request, find_collection(slug, request.user))


def _page(request: HttpRequest, collection: Collection, fault: str = "", status: int = 200) -> HttpResponse:
    page = page_of(collection, request.user, request.GET.get("after", ""))
    ctx = {"collection": collection, "page": page, "may_change": rules.may_change(request.user, collection)}
    ctx |= {"fault": fault, "typed": request.POST, "base": collection.get_absolute_url()}
    name = "_items" if wants_part(request) and not fault else "collection"
    return render(request, f"features/people/{name}.html", ctx, status=status)


@require_POST
def edit(request: HttpRequest, slug: str) -> HttpResponse:
    collection = find_collection(slug, request.user)
    name, about = request.POST.get("name", ""), request.POST.get("description", "")
    try:
        collecting.edit(collection, request.user, name=name, description=about, shared=bool(request.POST.get("shared")))
    except Refused as error:
        return _page(request, find_collection(slug, request.user), str(error), 422)
    messages.success(request, "Saved." if not collection.shared else "Saved: everybody signed in sees it.")
    return redirect(collection)


@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, slug: str) -> HttpResponse:
    """A GET asks whether it is meant."""
    collection = find_collection(slug, request.user)
    rules.require(rules.may_change(request.user, collection), collecting.OWNERS)
    if request.method == "POST":
        collecting.delete(collection, request.user)
        messages.success(request, f"The collection “{collection}” is deleted; its features are where they were.")
        return redirect("collections")
    ctx = {"collection": collection, "n": collection.items.count()}
    return render(request, "features/people/collection_delete.html", ctx)


@require_POST
def add(request: HttpRequest, slug: str) -> HttpResponse:
    """Put in the features of a list like ``sae/3, sae/17``."""
    collection = find_collection(slug, request.user)
    try:
        listed = naming.find_named(naming.names_in(request.POST.get("features", ""), request.POST.get("sae", "")))
        new = collecting.add(collection, [feature.pk for feature in listed], request.user)
    except Refused as error:
        return _page(request, collection, str(error), 422)
    there = len(listed) - len(new)
    text = f"Put in {features(len(new))}." + (f" {features(there)} were in it already." if there else "")
    undo = token(request.user, "take out", collection.pk, new) if new else ""
    return back(request, Outcome(text, undo), collection.get_absolute_url())


@require_POST
def item(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """``do``: up, down, out, or note, which writes ``note``."""
    collection = find_collection(slug, request.user)
    found = collection.items.filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise NotFound("This collection has no such feature any more.")
    do = _ITEM.get(request.POST.get("do", ""))
    if do is None:
        raise NotFound("A feature can be moved up or down, taken out, or given a note.")
    address = here(request, collection.get_absolute_url())
    try:
        outcome = do(request, collection, found)
    except Refused as error:
        return _item_refused(request, collection, str(error))
    if not wants_part(request):
        return back(request, outcome, address)
    page = page_of(collection, request.user, request.POST.get("after", ""))
    ctx = {"collection": collection, "page": page, "outcome": outcome, "here": address}
    ctx |= {"may_change": rules.may_change(request.user, collection), "base": collection.get_absolute_url()}
    return render(request, "features/people/_items_answer.html", ctx)


def _item_refused(request: HttpRequest, collection: Collection, sentence: str) -> HttpResponse:
    if wants_part(request):
        return render(request, "features/people/_toast.html", {"bad": sentence}, status=422)
    return _page(request, collection, sentence, 422)


def _move(request: HttpRequest, collection: Collection, item: CollectionItem, *, up: bool) -> Outcome:
    if collecting.move(collection, item, request.user, up=up):
        return Outcome("Moved up." if up else "Moved down.")
    return Outcome("It is the first already." if up else "It is the last already.")


def _take_out(request: HttpRequest, collection: Collection, item: CollectionItem) -> Outcome:
    gone = collecting.remove(collection, [item.feature_id], request.user)
    return Outcome("Taken out.", token(request.user, "put back", collection.pk, [astuple(kept) for kept in gone]))


def _note(request: HttpRequest, collection: Collection, item: CollectionItem) -> Outcome:
    collecting.annotate(collection, item, request.POST.get("note", ""), request.user)
    return Outcome("The note is saved.")


_ITEM: dict[str, Callable[[HttpRequest, Collection, CollectionItem], Outcome]] = {
    "up": lambda request, collection, item: _move(request, collection, item, up=True),
    "down": lambda request, collection, item: _move(request, collection, item, up=False),
    "out": _take_out,
    "note": _note,
}


@require_safe
def export(request: HttpRequest, slug: str, kind: str) -> StreamingHttpResponse:
    types = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
    if kind not in types:
        raise NotFound("A collection is exported as CSV or as JSON.")
    collection = find_collection(slug, request.user)
    rows = exporting.as_csv(collection) if kind == "csv" else exporting.as_json(collection)
    answer = StreamingHttpResponse(rows, content_type=types[kind])
    answer["Content-Disposition"] = f'attachment; filename="{collection.slug}.{kind}"'
    return answer


@require_safe
def options(request: HttpRequest) -> HttpResponse:
    """Collections that the user may add to, for the list under a field."""
    visible = Collection.objects.visible_to(request.user).values_list("slug", "name")
    return render(request, "features/people/_options.html", {"options": visible[:SHOWN]})
