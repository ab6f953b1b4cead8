"""Fixtures that several rooms use. tests/settings.py is read before this file."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import settings as hypothesis_settings

from tests import factories

# No test fails for being slow: CI machines are busy. What passes today passes tomorrow, so that a red build means a
# change; `pytest --hypothesis-profile=search` looks for examples that nobody has seen.
hypothesis_settings.register_profile("featurescope", deadline=None, derandomize=True)
hypothesis_settings.register_profile("search", deadline=None, max_examples=1000)
hypothesis_settings.load_profile("featurescope")


@pytest.fixture
def user(db: None) -> User:
    return factories.make_user("outsider")


@pytest.fixture
def world(db: None) -> factories.World:
    return factories.make_world()


@pytest.fixture
def client_in(world: factories.World) -> Client:
    """Signed in as the world's user."""
    client = Client()
    client.force_login(world.user)
    return client


@pytest.fixture
def anonymous() -> Client:
    return Client()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model, an SAE and a corpus: model/, sae/ and corpus.jsonl."""
    from tests.engine import tiny  # torch: only where a test needs it

    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_model(folder / "model")
    tiny.write_sae(folder / "sae")
    tiny.write_corpus(folder / "corpus.jsonl")
    return folder
