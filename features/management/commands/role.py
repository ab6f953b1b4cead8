"""``manage.py role``: give somebody a role, and with ``--create`` a way in."""

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.urls import reverse

from features.knowledge.members import give
from features.knowledge.rules import Refused
from features.models import LoginToken
from features.models.member import Role


class Command(BaseCommand):
    help = "Give somebody a role. Each may all that the one before it may."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="the name that they sign in with")
        parser.add_argument("role", choices=Role.labels)
        parser.add_argument(
            "--create", action="store_true", help="make a user of this name, and print an address that signs in once"
        )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        name, role = options["user"], Role[options["role"].upper()]
        user = User.objects.filter(username=name).first()
        is_new = user is None
        if user is None:
            if not options["create"]:
                raise CommandError(f"There is nobody called {name}: add --create to make a user of this name.")
            user = _make(name)
        try:
            give(user, role)
        except Refused as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{name} has the role {role.label} now.")
        if is_new:
            path = reverse("login_token", args=[LoginToken.objects.issue(user)])
            self.stdout.write(f"On this site, {path} signs {name} in: once, and within twelve hours.")
            self.stdout.write(f"To let them sign in later, set a password: python manage.py changepassword {name}")


def _make(name: str) -> User:
    """Somebody without a password."""
    user = User(username=name)
    user.set_unusable_password()
    try:
        user.full_clean()
    except ValidationError as error:
        raise CommandError(" ".join(error.messages)) from error
    user.save()
    return user
