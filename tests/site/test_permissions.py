"""Every address and every operation, tried by everybody: what is declared is what happens.

The list is made from the URL configuration and from the API itself, so a route that is added tomorrow is tried
tomorrow, and one that names no role fails here.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit
from uuid import UUID

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import Resolver404, URLPattern, URLResolver, get_resolver, path, resolve
from ninja import NinjaAPI
from ninja.testing import TestClient
from pytest_django.fixtures import Settings

from features.api import auth
from features.api.errors import NOT_SIGNED_IN, explain_errors
from features.knowledge import collecting, labelling, notes
from features.models import ApiKey, Feature, LabelChange, Role
from features.roles import refusal
from features.routes import UNDECLARED, Rule
from interp_site.api import api
from interp_site.urls import urlpatterns as site
from jobs.models import Checkpoint, Import, Job, Trial
from jobs.requests import ExtractionRequest
from tests import factories

pytestmark = pytest.mark.django_db
METHODS = ("GET", "POST", "PUT", "DELETE")
DUMMIES = {"slug": "none", "str": "none", "uuid": str(UUID(int=1)), "path": "none"}
FORM = {
    "text": "a", "value": "1", "on": "1", "tag": "a", "collection": "a", "name": "a", "note": "a", "do": "label",
    "feature": "tiny-lm-l6/1", "features": "tiny-lm-l6/2", "role": "viewer",
}  # fmt: skip
BODY = FORM | {"tags": ["a"], "value": 1, "wait": 0, "features": ["tiny-lm-l6/2"], "batch": DUMMIES["uuid"]}
WRITES = re.compile(r'(?:INSERT INTO|UPDATE|DELETE FROM) "(\w+)"')
OWN = {"features_star", "features_apikey", "django_session"}
"""Tables that a viewer writes."""


def routes(patterns: list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The address of every page, with its view; the API's have their own list."""
    for pattern in patterns:
        address = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield address, pattern.callback
        elif isinstance(pattern, URLResolver) and pattern.app_name != "ninja":
            yield from routes(pattern.url_patterns, address)


PAGES = dict(routes(get_resolver().url_patterns))
OPERATIONS = [
    pytest.param(method, operation, id=f"{method} {operation.path}")
    for router in api._get_bound_routers()
    for view in router.path_operations.values()
    for operation in view.operations
    for method in operation.methods
]


@dataclass
class Site:
    """A filled site, somebody of every role with a session and a key, and where to find things."""

    sessions: dict[Role, str]
    keys: dict[Role, str]
    places: dict[str, Any]  # by what stands before them in an address

    def address(self, route: str) -> str:
        """``saes/<slug:slug>/`` with something of this site in its places, or else something that is nowhere."""

        def fill(match: re.Match[str]) -> str:
            before = route[: match.start()]
            known = [value for place, value in self.places.items() if before.endswith(place)]
            return str(known[0] if known else DUMMIES.get(match[1], 1))

        return "/" + re.sub(r"<(?:(\w+):)?\w+>|\{\w+\}", fill, route).lstrip("/")

    def browser(self, role: Role | None, **kwargs: Any) -> Client:
        client = Client(**kwargs)
        if role is not None:
            client.cookies[settings.SESSION_COOKIE_NAME] = self.sessions[role]
        return client


def _session(user: User) -> str:
    client = Client()
    client.force_login(user)
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


def _fill() -> Site:
    world = factories.make_world()
    users = {role: factories.make_user(role.label, role=role) for role in Role}
    feature = Feature.objects.get(sae=world.sae, index=factories.NAMED)
    batch = labelling.give([feature], "towns", world.user)
    shared = collecting.create(world.user, "Shared", shared=True)
    collecting.add(shared, [feature.pk], world.user)
    asked = ExtractionRequest(model="tiny-lm", sae="tiny-lm-l6", corpus="small-texts").as_json()
    job = Job.objects.create(owner=world.user, settings=asked)
    places = {
        "saes/": world.sae.slug,
        "models/": world.model.slug,
        "collections/": shared.slug,
        "features/": feature.index,
        "contexts/": 0,
        "labels/": feature.labels.first().pk,  # type: ignore[union-attr]
        "comments/": notes.comment(feature, "Hm", world.user).pk,
        "changes/": batch,
        "items/": shared.items.get().pk,
        "plots/": "density",
        "export.": "csv",
        "saes/add/": Checkpoint.objects.create(owner=world.user, name="added").pk,
        "import/": Import.objects.create(owner=world.user, name="imported").pk,
        "jobs/": job.pk,
        "runs/": world.run.pk,
        "trials/": Trial.objects.create(sae=world.sae, index=1, text="a", owner=world.user).pk,
        "keys/": ApiKey.objects.issue(users[Role.VIEWER], "own")[0].pk,
    }
    keys = {role: ApiKey.objects.issue(user, "a program")[1] for role, user in users.items()}
    return Site({role: _session(user) for role, user in users.items()}, keys, places)


@pytest.fixture(scope="module")
def filled(django_db_setup: None, django_db_blocker: Any) -> Iterator[Site]:
    """One for all tests of this module. Nothing of it is committed."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield _fill()
        transaction.set_rollback(True)


def ask(client: Client, method: str, address: str, **more: Any) -> tuple[Any, set[str]]:
    """The answer, and the tables that were written to; what was written is undone."""
    written: set[str] = set()

    def listen(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if found := WRITES.match(sql):
            written.add(found[1])
        return execute(sql, params, many, context)

    with transaction.atomic(), connection.execute_wrapper(listen):
        answer = client.generic(method, address, **more)
        answer.getvalue()
        transaction.set_rollback(True)
    return answer, written


def visit(client: Client, method: str, address: str) -> tuple[Any, set[str]]:
    form = "" if method == "GET" else urlencode(FORM)
    return ask(client, method, address, data=form, content_type="application/x-www-form-urlencoded")


class Offers(HTMLParser):
    """What a page offers to press: a method and an address each."""

    def __init__(self, page: str, text: str) -> None:
        super().__init__()
        self.page, self.found = page, set[tuple[str, str]]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._add(given.get("method", "get").upper(), given.get("action", ""))
        for name, method in (("href", "GET"), ("hx-get", "GET"), ("hx-post", "POST"), ("data-create", "POST")):
            if name in given:
                self._add(method, given[name])

    def _add(self, method: str, address: str) -> None:
        self.found.add((method, urlsplit(urljoin(self.page, address)).path))


def needed(method: str, address: str) -> Role:
    """What an address of this site takes; a viewer's role where there is no page."""
    try:
        rule = getattr(resolve(address).func, "rule", None)
    except Resolver404:
        return Role.VIEWER
    return (rule.role_for(method) if rule else None) or Role.VIEWER


@pytest.mark.parametrize("route", PAGES)
def test_a_page_names_its_role(route: str) -> None:
    assert isinstance(getattr(PAGES[route], "rule", None), Rule), f"/{route} does not say who may open it"


@pytest.mark.parametrize(("method", "operation"), OPERATIONS)
def test_an_operation_names_its_role(method: str, operation: Any) -> None:
    declared = (auth.viewer, auth.researcher, auth.reviewer, auth.administrator)
    assert any(operation.auth_param is ways for ways in declared), f"{operation.path} does not say who may use it"


@pytest.mark.parametrize("route", PAGES)
def test_a_page_lets_in_whom_it_says(route: str, filled: Site) -> None:
    address, rule = filled.address(route), PAGES[route].rule
    for method in METHODS:
        role = rule.role_for(method)
        answer, _ = visit(filled.browser(None), method, address)
        assert answer.status_code < 500
        at_the_door = answer.status_code == 302 and answer["Location"].startswith("/login/?next=")
        assert at_the_door == (role is not None), (method, address)
        for mine in Role:
            answer, written = visit(filled.browser(mine), method, address)
            said, who = answer.getvalue().decode(errors="replace"), (method, address, mine.label)
            assert answer.status_code < 500, who
            if role is not None and mine < role:
                assert answer.status_code == 403, who
                assert refusal(role) in said, who
                assert not written, who
            else:
                assert "This needs the role" not in said, who
            assert mine > Role.VIEWER or written <= OWN, who


@pytest.mark.parametrize("role", Role)
def test_a_page_offers_nothing_that_would_be_refused(role: Role, filled: Site) -> None:
    pages = 0
    for route in PAGES:
        answer, _ = visit(filled.browser(role), "GET", filled.address(route))
        if answer.status_code != 200 or not answer["Content-Type"].startswith("text/html"):
            continue
        pages += 1
        for method, address in Offers(filled.address(route), answer.getvalue().decode()).found:
            assert needed(method, address) <= role, (route, method, address)
    assert pages > 20


@pytest.mark.parametrize(("method", "operation"), OPERATIONS)
def test_an_operation_lets_in_whom_it_says(method: str, operation: Any, filled: Site) -> None:
    role = operation.auth_callbacks[0].role
    address = filled.address(f"api/v1{operation.path}")
    given: dict[str, Any] = {"data": json.dumps(BODY), "content_type": "application/json"}
    answer, _ = ask(Client(), method, address, **given)
    assert (answer.status_code, answer.json()) == (401, {"detail": NOT_SIGNED_IN})
    for mine in Role:
        key = filled.keys[mine]
        ways: list[tuple[Client, dict[str, str]]] = [
            (filled.browser(mine), {}),
            (Client(), {"X-API-Key": key}),
            (Client(), {"Authorization": f"Bearer {key}"}),
        ]
        for client, headers in ways:
            answer, written = ask(client, method, address, headers=headers, **given)
            said, who = answer.getvalue().decode(), (method, address, mine.label, *headers)
            assert answer.status_code < 500, who
            if mine < role:
                assert (answer.status_code, answer.json()) == (403, {"detail": refusal(role)}), who
                assert not written, who
            else:
                assert "This needs the role" not in said, who
            assert mine > Role.VIEWER or written <= OWN, who


def test_viewers_star_features_and_make_keys(filled: Site) -> None:
    """What is refused above is refused for the role, not for a form that makes no sense."""
    browser = filled.browser
    star, keys = filled.address("saes/<slug:slug>/features/<int:index>/star/"), "/account/keys/"
    assert visit(browser(Role.VIEWER), "POST", star)[1] == {"features_star"}
    assert visit(browser(Role.VIEWER), "POST", keys)[1] == {"features_apikey"}
    label = filled.address("saes/<slug:slug>/features/<int:index>/label/")
    assert "features_label" in visit(browser(Role.RESEARCHER), "POST", label)[1]
    assert not LabelChange.objects.filter(after__text="a").exists()


def test_a_program_that_sends_no_key_is_told_to_and_not_asked_for_a_forms_token(filled: Site) -> None:
    answer = Client(enforce_csrf_checks=True).post("/api/v1/labels", json.dumps(BODY), content_type="application/json")
    assert (answer.status_code, answer.json()) == (401, {"detail": NOT_SIGNED_IN})


def test_a_browser_that_sends_no_forms_token_is_refused(filled: Site) -> None:
    strict = filled.browser(Role.RESEARCHER, enforce_csrf_checks=True)
    answer = strict.post("/api/v1/labels", json.dumps(BODY), content_type="application/json")
    assert (answer.status_code, answer.json()) == (403, {"detail": "CSRF check Failed"})


def forgotten(request: HttpRequest) -> HttpResponse:
    return HttpResponse("open to everybody")


urlpatterns = [path("forgotten/", forgotten), *site]


def test_a_page_that_names_no_role_is_closed(settings: Settings, filled: Site) -> None:
    settings.ROOT_URLCONF = __name__
    answer = filled.browser(Role.ADMINISTRATOR).get("/forgotten/")
    assert answer.status_code == 403
    assert UNDECLARED in answer.content.decode()
    assert Client().get("/forgotten/").status_code == 302


def test_an_operation_that_names_no_role_is_closed() -> None:
    careless = NinjaAPI(auth=api.auth, urls_namespace="careless")
    explain_errors(careless)

    @careless.get("/forgotten")
    def operation(request: HttpRequest) -> str:
        return "open to everybody"

    answer = TestClient(careless).get("/forgotten", user=SimpleNamespace(is_authenticated=True))
    assert answer.status_code == 403
    assert "does not say who may use it" in answer.json()["detail"]
