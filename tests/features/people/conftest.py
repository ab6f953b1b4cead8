"""People beside the world's own user, and the feature that they talk about."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from features.models import Feature
from tests import factories
from tests.factories import NAMED, World


@pytest.fixture
def bob(db: None) -> User:
    return factories.make_user("bob")


@pytest.fixture
def staff(db: None) -> User:
    return factories.make_user("grace", is_staff=True)


@pytest.fixture
def as_bob(bob: User) -> Client:
    client = Client()
    client.force_login(bob)
    return client


@pytest.fixture
def as_staff(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


@pytest.fixture
def named(world: World) -> Feature:
    """It shows “cities, by Ada”."""
    return Feature.objects.get(sae=world.sae, index=NAMED)
