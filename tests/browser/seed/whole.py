"""Fill an empty database for the browser.

Run it in a process of its own, with the site's settings: the tests' own database is another one.
"""

import json
import sys
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client

from features.models import Member, Role
from features.search import filling
from interp_site.local.static import collect_static
from tests import factories
from tests.browser.seed import evidence, people, sharing, work


def main() -> None:
    """Print what ``seed`` returns."""
    call_command("migrate", verbosity=0, interactive=False)
    collect_static()
    json.dump(seed(), sys.stdout)


def seed() -> dict[str, Any]:
    """``sessions``: cookies by name of a user. ``paths``: of pages, by the name under which tests ask for them."""
    with transaction.atomic():
        made = evidence.make()
        ben, grace = factories.make_user("ben"), factories.make_user("grace", is_staff=True)
        Member.objects.create(user=made.user, role=Role.REVIEWER)
        paths = evidence.paths(made) | people.make(made, ben) | work.make(made) | sharing.make(made, grace)
        filling.fill(connection)
    return {"sessions": {user.username: session(user) for user in (made.user, ben, grace)}, "paths": paths}


def session(user: User) -> str:
    """A cookie that signs the user in."""
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value
