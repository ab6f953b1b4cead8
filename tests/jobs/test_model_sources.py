"""What a worker is told of the model that a request names, and whose code it may run."""

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from features.models import LanguageModel
from jobs.requests import ExtractionRequest
from jobs.sources import ModelSource, absolute, model_source
from tests.factories import World


def asked(model: str) -> ModelSource:
    return model_source(ExtractionRequest(model=model, sae="sae", corpus="corpus"))


def test_a_registered_model_is_loaded_at_its_revision(world: World) -> None:
    model = LanguageModel.objects.get()
    model.source, model.revision = "lab/tiny", "0" * 40
    model.save()
    assert asked(model.slug) == ModelSource("lab/tiny", "0" * 40)
    assert asked("lab/other") == ModelSource("lab/other")


@pytest.mark.parametrize(
    ("model", "trusted"),
    [("lab/own", True), ("/models/x", True), ("lab/own2", False), ("lab/own@main", False), ("/models/x/y", False)],
)
@pytest.mark.django_db
def test_code_is_trusted_by_its_exact_source(settings: Settings, model: str, trusted: bool) -> None:
    assert not asked(model).trust_remote_code
    settings.TRUST_REMOTE_CODE = ["lab/own", "/models/x"]
    assert asked(model).trust_remote_code is trusted


def test_a_path_keeps_its_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a hub's cache has its name only as a link."""
    (tmp_path / "blob").write_text("weights")
    (tmp_path / "layer5.sae.pt").symlink_to(tmp_path / "blob")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert absolute("../layer5.sae.pt") == str(tmp_path / "layer5.sae.pt")
    assert absolute("owner/name") == "owner/name"
