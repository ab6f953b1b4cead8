"""Who may read the API: every operation refuses everybody else, in JSON."""

import re

import pytest
from django.test import Client
from django.utils import timezone

from features.models import ApiKey
from interp_site.api import api
from tests.factories import World

PATHS = [
    "/api/v1/models",
    "/api/v1/models/tiny-lm",
    "/api/v1/saes",
    "/api/v1/saes/tiny-lm-l6",
    "/api/v1/saes/tiny-lm-l6/features",
    "/api/v1/saes/tiny-lm-l6/features/3",
    "/api/v1/saes/no-such-sae",
]


@pytest.fixture
def secret(world: World) -> str:
    return ApiKey.objects.issue(world.user, "notebook")[1]


def operations() -> list[tuple[str, str]]:
    """Every method and path of the API, with something in the places of its parameters."""
    described = api.get_openapi_schema()["paths"].items()
    return [(method, re.sub(r"\{\w+\}", "3", path)) for path, methods in described for method in methods]


@pytest.mark.parametrize(("method", "path"), operations())
def test_no_operation_is_open_to_an_outsider(method: str, path: str, world: World, anonymous: Client) -> None:
    response = getattr(anonymous, method)(path)
    assert response.status_code == 401
    assert response.json() == {"detail": "Sign in, or send an API key in the header X-API-Key."}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "fs_wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": "\x00"},
        {"Authorization": "Bearer fs_wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        {"Cookie": "sessionid=wrong"},
    ],
)
def test_an_outsider_is_refused_in_json(world: World, anonymous: Client, path: str, headers: dict[str, str]) -> None:
    response = anonymous.get(path, headers=headers)
    assert response.status_code == 401
    assert response["Content-Type"].startswith("application/json")
    assert response.json() == {"detail": "Sign in, or send an API key in the header X-API-Key."}
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", PATHS[:-1])
def test_keys_and_sessions_read(anonymous: Client, client_in: Client, secret: str, path: str) -> None:
    answers = [
        client_in.get(path),
        anonymous.get(path, headers={"X-API-Key": secret}),
        anonymous.get(path, headers={"Authorization": f"Bearer {secret}"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()


def test_a_revoked_key_and_a_key_of_someone_who_left_read_nothing(world: World, anonymous: Client, secret: str) -> None:
    headers = {"X-API-Key": secret}
    assert anonymous.get(PATHS[0], headers=headers).status_code == 200
    world.user.is_active = False
    world.user.save(update_fields=["is_active"])
    assert anonymous.get(PATHS[0], headers=headers).status_code == 401
    world.user.is_active = True
    world.user.save(update_fields=["is_active"])
    ApiKey.objects.update(revoked_at=timezone.now())
    assert anonymous.get(PATHS[0], headers=headers).status_code == 401


def test_a_key_opens_no_page_and_what_was_found_takes_no_writes(
    anonymous: Client, client_in: Client, secret: str
) -> None:
    assert anonymous.get("/", headers={"X-API-Key": secret}).status_code == 302
    for method in ("post", "put", "patch", "delete"):
        assert getattr(client_in, method)(PATHS[0]).status_code == 405


def test_the_docs_are_open_and_name_the_header(anonymous: Client, db: None) -> None:
    assert anonymous.get("/api/v1/docs").status_code == 200
    schema = anonymous.get("/api/v1/openapi.json").json()
    assert schema["components"]["securitySchemes"]["KeyHeader"] == {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
    }
    assert all(operation["security"] for methods in schema["paths"].values() for operation in methods.values())
