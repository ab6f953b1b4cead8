"""System checks: silent by default, and loud where a setting would hurt."""

from pathlib import Path

import pytest
from django.core.checks import CheckMessage
from pytest_django.fixtures import Settings

from interp_site import checks


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
