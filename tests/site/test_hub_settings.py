"""What is said of the hub in the environment reaches the library that talks to it, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tests.hub import LocalHub

FETCH = """
import interp_site.settings
from jobs.engine import hub
from jobs.engine.errors import HubError
try:
    print(hub.fetch(hub.parse("lab/saes"), None).path)
except HubError as error:
    print(error)
"""


def fetch(tmp_path: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FEATURESCOPE_"))}
    clean |= {"FEATURESCOPE_VAR": str(tmp_path / "var"), "HF_HOME": str(tmp_path / "hub"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", FETCH], cwd=settings.BASE_DIR, env=clean, capture_output=True, text=True, check=True
    )
    assert environment.get("HF_TOKEN", "-") not in done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "0"}, {"ALLOW_HUB": "0"}, {"HF_ENDPOINT": ""}])
def test_the_hub_is_off_until_it_is_allowed(tmp_path: Path, environment: dict[str, str]) -> None:
    assert "the hub is off here" in fetch(tmp_path, **environment)


def test_a_mirror_and_a_token(tmp_path: Path) -> None:
    with LocalHub(token="secret_token", gated={"lab/saes"}) as local:
        local.push("lab/saes", {"cfg.json": b"{}"})
        environment = {"ALLOW_HUB": "1", "HF_ENDPOINT": local.address}
        assert "is gated" in fetch(tmp_path, **environment)
        assert local.downloads() == []
        path = fetch(tmp_path, **environment, HF_TOKEN="secret_token")
        assert path.startswith(f"{tmp_path}/hub/")
        assert (Path(path) / "cfg.json").read_bytes() == b"{}"
        assert {line.split("/")[1] for line in local.asked} == {"api", "lab"}  # nobody else is told of it
