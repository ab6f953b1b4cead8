"""System checks: silent by default, and loud where a setting would hurt."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as project
from django.core.checks import CheckMessage
from django.test import Client
from pytest_django.fixtures import Settings

from interp_site import checks
from tests.factories import PASSWORD, World


def ids(found: list[CheckMessage]) -> list[str | None]:
    assert all(message.hint for message in found)
    return [message.id for message in found]


def test_the_defaults_are_fine(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]  # Django's test runner adds one
    assert checks.hosts_are_served_safely() == []
    assert checks.the_secret_key_is_ours_alone() == []
    assert checks.a_redis_is_installed() == []
    assert checks.the_hub_is_reached_safely() == []
    assert checks.the_default_role_is_one() == []


@pytest.mark.parametrize(
    ("hosts", "debug", "https", "expected"),
    [
        (["localhost", "127.0.0.1"], True, False, []),
        (["lab.example"], False, True, []),
        (["lab.example"], False, False, ["interp_site.W001"]),
        (["lab.example", "localhost"], True, True, ["interp_site.E002"]),
        (["*"], True, False, ["interp_site.E002", "interp_site.W001"]),
    ],
)
def test_hosts(settings: Settings, hosts: list[str], debug: bool, https: bool, expected: list[str]) -> None:
    settings.ALLOWED_HOSTS, settings.DEBUG, settings.SESSION_COOKIE_SECURE = hosts, debug, https
    assert ids(checks.hosts_are_served_safely()) == expected


def test_a_secret_key_that_others_can_read(settings: Settings, tmp_path: Path) -> None:
    settings.VAR_DIR = tmp_path
    key = tmp_path / "secret_key"
    key.write_text("secret")
    key.chmod(0o600)
    assert ids(checks.the_secret_key_is_ours_alone()) == []
    key.chmod(0o640)
    assert ids(checks.the_secret_key_is_ours_alone()) == ["interp_site.W002"]


def test_no_redis(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_redis", lambda: None)
    settings.REDIS_IS_LOCAL = True
    assert ids(checks.a_redis_is_installed()) == ["interp_site.W003"]
    settings.REDIS_IS_LOCAL = False
    assert ids(checks.a_redis_is_installed()) == []


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("viewer", []),
        ("reviewer", []),
        ("administrator", ["interp_site.E005"]),
        ("owner", ["interp_site.E005"]),
        ("", ["interp_site.E005"]),
    ],
)
def test_the_default_role(settings: Settings, role: str, expected: list[str]) -> None:
    settings.DEFAULT_ROLE = role
    assert ids(checks.the_default_role_is_one()) == expected


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("", []),
        ("https://hub.example.org", []),
        ("http://127.0.0.1:8080", []),
        ("http://[::1]:8080", []),
        ("http://hub.example.org", ["interp_site.W004"]),
        ("https://name:password@hub.example.org", ["interp_site.E004"]),
        ("hub.example.org", ["interp_site.E004"]),
        ("https://[", ["interp_site.E004"]),
    ],
)
def test_the_address_of_the_hub(settings: Settings, endpoint: str, expected: list[str]) -> None:
    settings.ALLOW_HUB, settings.HUB_ENDPOINT = True, endpoint
    assert ids(checks.the_hub_is_reached_safely()) == expected
    assert all("password@" not in str(message) for message in checks.the_hub_is_reached_safely())
    settings.ALLOW_HUB = False
    assert checks.the_hub_is_reached_safely() == []


def manage(folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """A command under the project's own settings, as they are in this environment and a folder of its own."""
    unset = {"HTTPS", "HSTS_SECONDS", "ALLOWED_HOSTS", "DEBUG", "SECRET_KEY", "DATABASE_URL", "REDIS_URL"}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    own = {"DJANGO_SETTINGS_MODULE": "interp_site.settings", "FEATURESCOPE_VAR": str(folder)}
    command = [sys.executable, "manage.py", *words]
    everything = inherited | own | environment
    return subprocess.run(command, cwd=project.BASE_DIR, env=everything, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("environment", "warnings"),
    [
        ({}, []),
        ({"HTTPS": "1"}, []),
        ({"HTTPS": "1", "ALLOWED_HOSTS": "lab.example,localhost"}, []),
        ({"ALLOWED_HOSTS": "lab.example"}, ["interp_site.W001", "security.W004", "security.W008", "security.W012"]),
        ({"HTTPS": "1", "SECRET_KEY": "short"}, ["security.W009"]),
    ],
    ids=str,
)
def test_a_deployment(tmp_path: Path, environment: dict[str, str], warnings: list[str]) -> None:
    done = manage(tmp_path, environment, "check", "--deploy", "--fail-level", "WARNING")
    assert (done.returncode == 0) is not bool(warnings), done.stderr
    assert all(f"({name})" in done.stderr for name in warnings), done.stderr


ASK = """
import json
from django.conf import settings
from django.test import Client
said = []
for headers in ({}, {"X-Forwarded-Proto": "https"}):
    answer = Client(headers=headers).get("/api/v1/saes", headers={"Host": "localhost"})
    said.append([answer.status_code, answer.get("Location"), answer.get("Strict-Transport-Security")])
print(json.dumps(said))
"""


@pytest.mark.parametrize(
    ("environment", "answers"),
    [
        ({}, [[401, None, None]] * 2),
        ({"HTTPS": "1"}, [[301, "https://localhost/api/v1/saes", None], [401, None, "max-age=3600"]]),
        (
            {"HTTPS": "1", "HSTS_SECONDS": "60"},
            [[301, "https://localhost/api/v1/saes", None], [401, None, "max-age=60"]],
        ),
    ],
    ids=str,
)
def test_only_a_site_behind_tls_asks_for_tls(tmp_path: Path, environment: dict[str, str], answers: list) -> None:
    done = manage(tmp_path, environment, "shell", "--no-imports", "--command", ASK)
    assert json.loads(done.stdout or "null") == answers, done.stderr


def test_no_script_and_no_form_of_another_site_has_the_session_s_cookie(world: World, anonymous: Client) -> None:
    anonymous.post("/login/", {"username": world.user.username, "password": PASSWORD})
    cookie = anonymous.cookies["sessionid"]
    assert cookie["httponly"] is True
    assert cookie["samesite"] == "Lax"
